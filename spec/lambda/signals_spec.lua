-- SPDX-License-Identifier: MIT
-- The end of a Lambda function: the extension that makes Lambda announce it,
-- and SIGTERM in every state the runtime can be in.
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

local ECHO = "return { handler = function(event) return event end }"

-- A pool with its workers in a loop and in a deaf program, begun for good.
local BUSY = [[
  local luapool = require "luapool"
  local gate = require "spec.support.gate"
  local pool = luapool.Pool(2)
  kept = pool
  local function busy(path)
    pool:apply_async(function() while true do end end)
    pool:apply_async(os.execute, {"trap '' TERM; sleep 60; sleep 60"})
    pool:poll(0.05)
    if path then gate.mark(path) end
  end
]]

describe("the extension", function()
  lambda.guard(before_each, after_each)

  -- What an extension's requests must be.
  local function check(f, base)
    local register = f:wait_request "register"
    assert.are.equal("POST", register.method)
    assert.are.equal((base or "") .. "/2020-01-01/extension/register",
      register.path)
    assert.are.same({ "luapool", 1 },
      { register:header "Lambda-Extension-Name" })
    assert.are.same({ events = {} }, register:json())
    assert.are.equal('{"events":[]}', (register:text():gsub("%s", "")))
    local waits = f:wait_request "extension_next"
    assert.are.equal("GET", waits.method)
    assert.are.equal((base or "") .. "/2020-01-01/extension/event/next",
      waits.path)
    assert.are.same({ "extension-1", 1 },
      { waits:header "Lambda-Extension-Identifier" })
    assert.is_true(register.time < f:wait_for { what = "head", kind = "next" }
      .time)
  end

  it("is registered before the first next, and waits", function()
    local f = lambda.start { code = ECHO }
    check(f)
    for i = 1, 3 do
      assert.are.equal(tostring(i), f:invoke(tostring(i)):result())
    end
    assert.are.equal(1, #f:requests "register")
    assert.are.equal(1, #f:requests "extension_next")
    assert.are.equal(0, #f:all { what = "closed" })
    assert.are.equal(2, #f:all { what = "connection" })
    f:stop()
  end)

  it("is below the base path", function()
    local f = lambda.start { code = ECHO, base = "/some/base" }
    check(f, "/some/base")
    assert.are.equal("1", f:invoke("1"):result())
    f:stop()
  end)

  local identifier = "Lambda-Extension-Identifier"
  for what, fault in pairs {
    ["403"] = { status = 403 }, ["500"] = { status = 500 },
    ["404"] = { status = 404 }, ["a reset"] = { reset = true },
    ["an end"] = { cut = 0 }, ["half an answer"] = { cut = "head" },
    ["no identifier"] = { headers = { { identifier, false } } },
    ["an empty identifier"] = { headers = { { identifier, "" } } },
    ["nonsense"] = { raw = "nonsense\r\n\r\n", drop = true },
  } do
    it("is done without where registering fails: " .. what, function()
      fault.at = "register"
      local f = lambda.start { code = ECHO, faults = { fault } }
      assert.are.equal("1", f:invoke("1"):result())
      assert.are.equal("2", f:invoke("2"):result())
      assert.are.equal(1, #f:requests "register")
      assert.are.equal(0, #f:all { what = "head", kind = "extension_next" })
      local result = f:stop()
      assert.are.equal(0, result.status)
      assert.is_true(result.term < 1)
    end)
  end

  it("is done without where registering is never answered", function()
    local f = lambda.start { code = ECHO,
      faults = { { at = "register", hang = true } } }
    assert.are.equal("1", f:invoke("1", 12):result())
    f:stop()
  end)

  for what, fault in pairs {
    ["403"] = { status = 403 }, ["500"] = { status = 500 },
    ["an event"] = { status = 200, body = '{"eventType":"SHUTDOWN"}' },
    ["a reset"] = { reset = true }, ["an end"] = { cut = 0 },
  } do
    it("does no harm where its wait ends: " .. what, function()
      fault.at = "extension_next"
      local f = lambda.start { code = ECHO, faults = { fault,
        { at = "register", headers = { { identifier, "extension-1" } } } } }
      f:wait_request "extension_next"
      for i = 1, 20 do
        assert.are.equal(tostring(i), f:invoke(tostring(i)):result())
      end
      f:wait_idle()
      -- At most once an event; what ends on a connection that was used before
      -- is asked again at once.
      local n = #f:requests "extension_next"
      assert.is_true(n <= 42, n)
      gate.sleep(0.2)
      assert.is_true(#f:requests "extension_next" <= n + 2, "it asks and asks")
      assert.are.equal(0, f:stop().status)
    end)
  end
end)

describe("SIGTERM", function()
  lambda.guard(before_each, after_each)

  -- Ends it, and says how long that took.
  local function ends(f)
    local result = f:stop()
    assert.are.equal(0, result.status, result.stderr)
    assert.is_true(result.term < 1, result.term)
    return result
  end

  it("ends an idle function", function()
    local f = lambda.start { code = ECHO }
    f:wait_idle()
    local result = ends(f)
    assert.are.equal("", result.stdout)
  end)

  it("ends an idle function within 300 ms, as a rule", function()
    local times = {}
    for i = 1, 5 do
      local f = lambda.start { code = BUSY .. "busy() " .. ECHO }
      f:invoke "1"
      f:wait_idle()
      times[i] = ends(f).term
    end
    table.sort(times)
    assert.is_true(times[3] < 0.3, times[3])
  end)

  it("ends a function that loads", function()
    for _, what in ipairs { "while true do end", "gate.sleep(60)",
      "os.execute 'exec sleep 2'", "pool:map(gate.sleep, {60, 60})" } do
      local path = gate.name()
      local f = lambda.start { linger = 4, code = BUSY .. ([[
        gate.mark(%q)
      ]]):format(path) .. what }
      gate.wait(path)
      ends(f)
      assert.are.equal(0, #f:requests "init_error")
    end
  end)

  it("ends a function with busy workers", function()
    local f = lambda.start { code = BUSY .. "busy() " .. ECHO }
    f:wait_idle()
    assert.is_true(#f:workers() >= 2)
    ends(f)
  end)

  for what, code in pairs {
    ["in a loop"] = "while true do end",
    ["in a loop with a pcall"] = "while true do pcall(error) end",
    ["in a loop without hooks"] = "while true do debug.sethook() end",
    ["in a coroutine"] =
      "coroutine.wrap(function() while true do end end)()",
    ["in a program"] = "os.execute 'exec sleep 2'",
    ["in a pipe"] = "io.popen('exec sleep 2'):read 'a'",
    ["in a pattern"] = "(('a'):rep(40)):find(('a-'):rep(20) .. 'b')",
    ["in a map"] = "pool:map(gate.sleep, {60, 60, 60})",
    ["in a wait"] = "pool:apply_async(gate.sleep, {60}):wait()",
    ["in another pool's end"] =
      "local own = luapool.Pool(1) own:apply_async(gate.sleep, {60}) "
        .. "own:close() own:join()",
    ["in a sleep"] = "gate.sleep(60)",
    ["in a finalizer"] =
      "setmetatable({}, {__gc = function() while true do end end}) "
        .. "collectgarbage()",
    ["in a close"] = "local x <close> = setmetatable({}, {__close = "
      .. "function() while true do end end})",
  } do
    it("ends a handler, and its output is out: " .. what, function()
      local path = gate.name()
      local f = lambda.start { unanswered = 1, linger = 4, code = BUSY .. ([[
        io.stdout:setvbuf "full"
        return { handler = function(event)
          busy()
          io.write "last words"
          gate.mark(%q)
          %s
        end }
      ]]):format(path, code) }
      f:push "{}"
      gate.wait(path)
      assert.are.equal("last words", ends(f).stdout)
      assert.are.equal(0, #f:all { what = "head", kind = "response" })
      assert.are.equal(0, #f:all { what = "head", kind = "error" })
    end)
  end

  for _, kind in ipairs { "response", "error", "next", "register" } do
    it("ends a wait for an answer: " .. kind, function()
      local f = lambda.start {
        unanswered = true, faults = { { at = kind, hang = true } },
        code = [[
          return { handler = function(event)
            if event == 1 then error "x" end
          end }
        ]], events = { { body = kind == "error" and "1" or "2" } },
      }
      f:wait_request(kind)
      ends(f)
    end)
  end

  it("ends the post of an init error", function()
    local f = lambda.start { code = "error 'x'",
      faults = { { at = "init_error", hang = true } } }
    f:wait_request "init_error"
    f:kill "TERM"
    assert.is_true(f:wait().seconds < 5)
  end)

  it("ends the delivery of an event", function()
    local f = lambda.start { unanswered = true, code = ECHO, events = {
      { body = '"' .. ("x"):rep(20000) .. '"', pieces = 1 } } }
    f:wait_for { what = "served" }
    gate.sleep(0.05)
    ends(f)
  end)

  it("may come twice, and to every process", function()
    local f = lambda.start { code = BUSY .. "busy() " .. ECHO }
    f:wait_idle()
    faults.kill(f:processes(), "TERM")
    faults.kill(f:processes(), "TERM")
    assert.are.equal(0, f:wait().status)
  end)

  it("may come while the function is frozen", function()
    local f = lambda.start { code = BUSY .. "busy() " .. ECHO }
    f:wait_idle()
    local pids = f:processes()
    faults.kill(pids, "STOP")
    f:kill "TERM"
    gate.sleep(0.2)
    local from = gate.now()
    faults.kill(pids, "CONT")
    local result = f:wait()
    assert.are.equal(0, result.status)
    assert.is_true(gate.now() - from < 1.5)
  end)

  it("keeps its meaning in programs", function()
    local f = lambda.start { code = BUSY .. [[
      local function ended()
        return {select(2, os.execute "kill -TERM $$; exit 3")}
      end
      return { handler = function() return {ended(), pool:apply(ended)} end }
    ]] }
    assert.are.equal('[["signal",15],["signal",15]]',
      f:invoke("{}"):result())
    f:stop()
  end)
end)

describe("a function whose API is gone", function()
  lambda.guard(before_each, after_each)

  it("ends with 1, a message and its workers", function()
    local f = lambda.start { code = BUSY .. "busy() " .. ECHO }
    f:wait_idle()
    f:api { ["do"] = "deaf" }
    f:api { ["do"] = "reset" }
    local result = f:wait()
    assert.are.equal(1, result.status)
    assert.are_not.equal("", result.stderr)
  end)
end)
