-- SPDX-License-Identifier: MIT
-- The functions of the module that work on a default pool. It lives until the
-- script ends, so that each test here is a script of its own.
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

-- Definitions for the scripts.
local HEAD = [[
  local leaks = require "spec.support.leaks"
  local function square(x) return x * x end
  local function add(a, b) return a + b end
  local function workers() return leaks.size(leaks.children()) end
]]

local function output(text, opts) return script.output(HEAD .. text, opts) end

describe("the default pool", function()
  leaks.guard(before_each, after_each)

  it("has the calls of any pool", function()
    assert.are.equal("1 4 9|3 7|12|1=1 2=4|14\n", output [[
      local parts = {
        table.concat(luapool.map(square, {1, 2, 3}), " "),
        table.concat(luapool.starmap(add, {{1, 2}, {3, 4}}), " "),
        luapool.apply(add, {5, 7}),
      }
      local seen = {}
      for i, v in luapool.imap(square, {1, 2}) do
        seen[#seen + 1] = i .. "=" .. v
      end
      parts[4] = table.concat(seen, " ")
      local sum = 0
      for _, v in luapool.imap_unordered(square, {1, 2, 3}) do sum = sum + v end
      parts[5] = sum
      print(table.concat(parts, "|"))
    ]])
  end)

  it("is made at first use, one worker per CPU, and kept", function()
    assert.are.equal("0 true true true\n", output [[
      io.write(workers(), " ")
      luapool.map(square, {1})
      local before = leaks.children()
      io.write(tostring(workers() == luapool.cpu_count()), " ")
      luapool.apply(square, {1})
      for _ in luapool.imap(square, {1, 2}) do end
      io.write(tostring(workers() == luapool.cpu_count()), " ")
      local same = true
      for pid in pairs(leaks.children()) do same = same and before[pid] end
      print(same ~= nil)
    ]])
  end)

  it("takes the options of calls", function()
    assert.are.equal("timeout 1 4 task 1 4\n", output [[
      local function work(x)
        while x == 2 do end
        return x
      end
      local function bad(x) if x == 1 then error "x" end return x end
      local _, errors = luapool.map(work, {1, 2},
        {timeout = 0.2, on_error = "collect"})
      io.write(errors[2].kind, " ")
      io.write(table.concat(luapool.map(square, {1, 2}, 1), " "), " ")
      local results, errors = luapool.map(bad, {1, 4}, {on_error = "collect"})
      print(errors[1].kind .. " " .. errors[1].index .. " " .. results[2])
    ]])
  end)

  it("sees what was defined after it was made", function()
    assert.are.equal("1 2\n", output [[
      luapool.map(square, {1})
      function helper() return 1 end
      function work() return helper() end
      io.write(luapool.apply(work), " ")
      function helper() return 2 end
      print(luapool.apply(work))
    ]])
  end)

  it("names the misused function at the caller's level", function()
    for _, name in ipairs { "map", "starmap", "apply", "imap",
      "imap_unordered" } do
      local out = script.output("\nprint(pcall(function() luapool." .. name ..
        "(nil, {}) end))")
      assert.is_truthy(out:find(
        (":2: bad argument #1 to '%s' (function expected, got nil)"):format(
          name), 1, true), out)
    end
  end)

  it("does not outlive the script, however that ends", function()
    for ending, status in pairs {
      [""] = 0, ["os.exit(3)"] = 3, ["error 'x'"] = 1, ["os.exit(4, true)"] = 4,
    } do
      local result = script.run(HEAD .. [[
        luapool.map(square, {1, 2, 3})
        kept = luapool.imap(os.execute, {"true", "sleep 600"}, 1)
        kept()
      ]] .. ending)
      assert.are.equal(status, result.status)
    end
  end)

  it("of a task is a pool of its own", function()
    assert.are.equal("5 13\n", output [[
      luapool.map(square, {1})
      local function nested(n)
        local t = luapool.map(square, {n, n + 1})
        return t[1] + t[2]
      end
      print(table.concat(luapool.map(nested, {1, 2}), " "))
    ]])
  end)

  it("survives the deaths of its workers", function()
    assert.are.equal("lost 9\n", output [[
      local ok, err = pcall(luapool.apply, os.exit, {1})
      print(err.kind .. " " .. luapool.apply(square, {3}))
    ]])
  end)

  it("works inside a coroutine", function()
    assert.are.equal("9\n", output [[
      local co = coroutine.wrap(function()
        return luapool.map(square, {3})[1]
      end)
      print(co())
    ]])
  end)
end)
