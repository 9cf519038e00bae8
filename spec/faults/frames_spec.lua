-- SPDX-License-Identifier: MIT
-- What goes through the pipes: frames that no worker should send, frames that
-- stop in the middle, pipes that are unhelpful, sizes, and what tasks print.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"
local hostile = require "spec.support.hostile"
local leaks = require "spec.support.leaks"
local luapool = require "luapool"

local numbers, square = faults.numbers, faults.square

describe("a worker that writes what it should not", function()
  faults.guard(before_each, after_each)

  -- What its task does, and whether it lives on afterwards: in a wait, as a
  -- task that returns, or not at all.
  local attacks = {
    ["a wrong magic byte"] = { magic = 0x5b },
    ["an unknown type"] = { type = 99 },
    ["a type of the parent's"] = { type = hostile.CHUNK },
    ["type 0"] = { type = 0 },
    ["a task that does not exist"] = { task = 4711 },
    ["an error of a task that does not exist"] =
      { task = 4711, type = hostile.ERROR },
    ["that it is ready, again"] = { type = hostile.READY },
    ["a result that is no message"] = { payload = "\xff\xff\xff\xff" },
    ["an empty result"] = { payload = "" },
    ["a length over the maximum"] = { length = 0xffffffff },
    ["a length that it does not fill"] = { length = 1000 },
    ["half a header"] = { raw = "\0\0\0" },
    ["noise"] = { raw = ("\x81\x12\xf7"):rep(100000) },
  }
  local endings = {
    ["dies"] = function() harm.exit(0) end,
    ["waits"] = function() gate.sleep(60) end,
    ["loops"] = function() while true do end end,
  }

  for what, attack in pairs(attacks) do
    for how, ending in pairs(endings) do
      it("costs its one task: " .. what .. ", and " .. how, function()
        local pool = faults.pool(2)
        local function work()
          hostile.send(attack)
          ending()
        end
        local others, future = {}, pool:apply_async(work)
        for i = 1, 8 do others[i] = pool:apply_async(square, { i }) end
        local e = future:exception(4)
        assert.is_truthy(errors.is("lost", e) or errors.is("decode", e),
          tostring(e))
        -- A result of its own making counts; then nothing is wrong with the
        -- worker, for as long as it is busy.
        if e.kind == "decode" and how ~= "dies" then
          return pool:terminate()
        end
        for i = 1, 8 do assert.are.equal(i * i, faults.get(others[i])) end
        gate.eventually(function()
          pool:poll(0)
          return pool:stats().restarts == 1
        end)
      end)
    end
  end

  for _, attack in ipairs { "type = 99", "length = 1000", "raw = '\\0'",
    "magic = 1", "length = 0xffffffff" } do
    it("costs an apply its one task: " .. attack, function()
      local out = faults.output([[
        local hostile = require "spec.support.hostile"
        local pool <close> = luapool.Pool(1)
        local ok, e = pcall(pool.apply, pool, function()
          hostile.send {]] .. attack .. [[}
          while true do end
        end)
        print(ok, e.kind, pool:apply(faults.square, {3}))
      ]], { limit = 5 })
      assert.are.equal("false\tlost\t9\n", out)
    end)
  end

  for what, attack in pairs(attacks) do
    it("while it goes on is replaced: " .. what, function()
      local pool = faults.pool(1)
      local function work(x)
        if x == 3 then hostile.send(attack) end
        return x * x
      end
      local future = pool:map_async(work, numbers(6),
        { chunksize = 1, on_error = "collect" })
      local results, errs = faults.get(future)
      -- Of those it had started all may be lost: they came behind the noise.
      for i = 1, 6 do
        if errs[i] then
          assert.is_truthy(errors.is("lost", errs[i])
            or i == 3 and errors.is("decode", errs[i]), tostring(errs[i]))
        else
          assert.are.equal(i * i, results[i])
        end
      end
      faults.sound(pool)
    end)
  end
end)

describe("results made before a frame that is none", function()
  faults.guard(before_each, after_each)

  for what, attack in pairs {
    ["noise"] = { raw = ("n"):rep(1000) }, ["type"] = { type = 99 },
    ["task"] = { task = 4711 }, ["length"] = { length = 0xffffffff },
  } do
    it("are kept: " .. what, function()
      local pool = faults.pool(1)
      local function work(x)
        if x == 4 then
          hostile.send(attack)
          harm.exit(0)
        end
        return x * x
      end
      local results, errs = faults.get(pool:map_async(work, numbers(6),
        { chunksize = 6, on_error = "collect" }))
      for i = 1, 6 do
        if i == 4 then
          assert.is_true(errors.is("lost", errs[i]))
        else
          assert.are.equal(i * i, results[i])
        end
      end
    end)
  end
end)

describe("a worker that sends a result of its own making", function()
  faults.guard(before_each, after_each)

  -- A task that sends its result itself and then returns another: twice the
  -- same task.
  it("sends one twice and is killed", function()
    local pool = faults.pool(1)
    local pid = pool:apply(leaks.pid)
    local function work() return hostile.send_result(7) end
    local first = pool:apply_async(work)
    local second = pool:apply_async(square, { 3 })
    assert.are.equal(7, faults.get(first))
    local ok, value = pcall(faults.get, second)
    assert.is_true(ok and value == 9 or errors.is("lost", value))
    gate.eventually(function()
      pool:poll(0)
      return not leaks.alive(pid)
    end, 5, "the end of that worker")
    faults.sound(pool)
  end)

  it("in a chunk gives no other item that result", function()
    local pool = faults.pool(1)
    local function work(x)
      if x == 1 then hostile.send_result(77, 1) end
      return x * x
    end
    local results, errs = faults.get(pool:map_async(work, numbers(6),
      { chunksize = 6, on_error = "collect" }))
    for i = 2, 6 do
      assert.is_truthy(results[i] == i * i or errs[i],
        ("item %d: %s"):format(i, tostring(results[i])))
    end
    faults.sound(pool)
  end)

  -- The worker is idle when the frame is written, by an heir of its task.
  local idle = {
    ["a result"] = { payload = hostile.SEVEN },
    ["an error"] = { type = hostile.ERROR, payload = "" },
    ["an error that decodes"] = { type = hostile.ERROR,
      payload = luapool.encode("init", "invented", nil, nil) },
    ["that it is ready"] = { type = hostile.READY, payload = "" },
    ["noise"] = { raw = ("n"):rep(1000) },
    ["half a header"] = { raw = "\1" },
  }
  for what, attack in pairs(idle) do
    it("that nobody asked for is killed: " .. what, function()
      local pool = faults.pool(1)
      local pid = pool:apply(leaks.pid)
      attack.task = attack.task or 0
      pool:apply(hostile.send_later, { 0.1, attack })
      gate.eventually(function()
        pool:poll(0.01)
        return not leaks.alive(pid)
      end, 8, "the end of that worker")
      faults.sound(pool)
    end)
  end
end)

describe("bytes that are lost on their way", function()
  faults.guard(before_each, after_each)
  before_each(function() faults.needs_strace(pending) end)

  for _, call in ipairs { "write", "writev" } do
    for when = 1, 3 do
      it(("make no hang: %s %d"):format(call, when), function()
        local inject = ("%s:retval=1:when=%d"):format(call, when)
        local result = faults.run([[
          local pool = luapool.Pool(2)
          local kinds = {}
          for i = 1, 6 do
            local e = pool:apply_async(faults.square, {i}):exception(15)
            kinds[#kinds + 1] = e and e.kind or "ok"
          end
          io.stderr:write(table.concat(kinds, " "))
          os.exit(true, true)
        ]], { under = faults.strace(inject) })
        assert.are.equal(0, result.status)
        assert.is_falsy(result.stderr:find "timeout", result.stderr)
      end)
    end
  end
end)

describe("unhelpful pipes", function()
  faults.guard(before_each, after_each)

  local job = [[
    local pool <close> = luapool.Pool(2)
    local text = ("abc"):rep(SIZE)
    local list, errs = pool:map(function(x)
      if x % 10 == 0 then error("no " .. x, 0) end
      return text .. x
    end, faults.numbers(60), {on_error = "collect"})
    local good = 0
    for i = 1, 60 do
      if i % 10 == 0 then good = good + (errs[i].value == "no " .. i and 1 or 0)
      else good = good + (list[i] == text .. i and 1 or 0) end
    end
    local futures = {}
    for i = 1, 20 do
      futures[i] = pool:apply_async(string.upper, {text .. i})
    end
    for i = 1, 20 do
      good = good + (futures[i]:get() == text:upper() .. i and 1 or 0)
    end
    local e = pool:apply_async(function() harm.kill(leaks.pid(), 9) end)
      :exception()
    faults.sound(pool)
    print(good, e.kind, pool:stats().restarts)
  ]]

  local function same(settings, size)
    assert.are.equal("80\tlost\t1\n", faults.output((job:gsub("SIZE", size)),
      { env = faults.preload("pipes", settings) }))
  end

  for what, settings in pairs {
    ["one byte a call"] = { BYTES = 1 },
    ["seven bytes a call"] = { BYTES = 7 },
    ["interrupted often"] = { EINTR = 2 },
    ["interrupted, one byte a call"] = { BYTES = 1, EINTR = 3 },
    ["of 4 KiB"] = { SIZE = 4096 },
    ["of 4 KiB, interrupted, 1000 bytes a call"] =
      { SIZE = 4096, EINTR = 5, BYTES = 1000 },
  } do
    local env = {}
    for name, value in pairs(settings) do
      env["LUAPOOL_PIPE_" .. name] = value
    end
    it("change nothing: " .. what, function()
      same(env, settings.BYTES == 1 and 100 or 1000)
    end)
    it("change nothing, with more to carry #slow: " .. what, function()
      same(env, settings.BYTES == 1 and 1000 or 30000)
    end)
  end
end)

describe("sizes", function()
  faults.guard(before_each, after_each)

  local function echo(s) return s end

  local function carried(pool, n)
    local text = ("z"):rep(n)
    assert.is_true(faults.get(pool:apply_async(echo, { text }), 60) == text)
    local list = faults.get(pool:map_async(echo, { text, 1, text }, 3), 60)
    assert.is_true(list[1] == text and list[2] == 1 and list[3] == text)
  end

  for _, n in ipairs { 0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20,
    1 << 26 } do
    it("of all kinds go both ways: " .. n, function()
      local pool = faults.pool(1)
      carried(pool, n)
    end)
  end

  local function memory()
    local kib = gate.read("/proc/meminfo"):match "MemAvailable:%s+(%d+)"
    return tonumber(kib or 0) << 10
  end

  it("of 1 GiB go both ways #slow", function()
    if memory() < 12 << 30 then pending "not enough memory" end
    local out = faults.output([[
      local pool = luapool.Pool(1)
      local text = ("z"):rep(1 << 30)
      print(#pool:apply(function(s) return s end, {text}))
      print(#pool:apply(string.rep, {"y", 1 << 30}))
    ]], { limit = 120 })
    assert.are.equal("1073741824\n1073741824\n", out)
  end)

  -- string.rep makes no more than 2 GiB.
  for _, n in ipairs { "1 << 31", "(1 << 32) - 100", "(1 << 32) + 7" } do
    it("beyond that work or are a clear error #slow: " .. n, function()
      if memory() < 16 << 30 then pending "not enough memory" end
      local out = faults.output([[
        local pool = luapool.Pool(1)
        local n = ]] .. n .. [[

        local function make(size)
          local part = ("y"):rep(1 << 30)
          local rest = ("z"):rep(size % (1 << 30))
          return part .. (size >= 2 << 30 and part or "")
            .. (size >= 3 << 30 and part or "")
            .. (size >= 4 << 30 and part or "") .. rest
        end
        local function try(...)
          local ok, v = pcall(pool.apply, pool, ...)
          collectgarbage()
          if ok then return v == n or #v == n end
          return v.kind == "encode" and v.message:find "4 GiB" ~= nil
            or v.kind == "lost" and v.signal == 9 or tostring(v)
        end
        print(try(make, {n}))
        print(try(function(s) return #s end, {make(n)}))
        print(pool:apply(faults.square, {3}))
      ]], { limit = 200 })
      assert.are.equal("true\ntrue\n9\n", out)
    end)
  end
end)

describe("large arguments and results at once", function()
  faults.guard(before_each, after_each)

  local text = ("m"):rep(1 << 20)
  local function echo(x, s) return x .. (s or text) end

  it("do not block one worker: map", function()
    local pool = faults.pool(1)
    local list = {}
    for i = 1, 60 do list[i] = { i, text } end
    local results = faults.get(pool:starmap_async(echo, list))
    for i = 1, 60 do assert.is_true(results[i] == i .. text) end
  end)

  it("do not block one worker: 100 apply_async", function()
    local pool = faults.pool(1)
    local futures = {}
    for i = 1, 100 do futures[i] = pool:apply_async(echo, { i, text }) end
    for i = 1, 100 do assert.is_true(faults.get(futures[i]) == i .. text) end
  end)

  it("do not block one worker: one chunk of 64 MB", function()
    local pool = faults.pool(1)
    local list = {}
    for i = 1, 64 do list[i] = { i, text } end
    local results = faults.get(pool:starmap_async(echo, list, 64))
    for i = 1, 64 do assert.is_true(results[i] == i .. text) end
  end)
end)

describe("a hundred thousand tasks that nobody waits for", function()
  faults.guard(before_each, after_each)

  local job = [[
    local function resident()
      return tonumber(gate.read("/proc/self/statm"):match "%d+ (%d+)") * 4096
    end
    local pool <close> = luapool.Pool(2)
    pool:apply(faults.square, {1})
    collectgarbage()
    local before = resident()
    local futures = {}
    local n = N
    for i = 1, n do futures[i] = pool:apply_async(faults.square, {i}) end
    local each = (resident() - before) / n
    for i = 1, n do assert(futures[i]:get() == i * i) end
    print(each < 4096 or each, (resident() - before) / n < 8192)
  ]]

  it("are no deadlock, and a bounded memory: 10,000", function()
    assert.are.equal("true\ttrue\n", faults.output((job:gsub(
      "= N", "= 10000"))))
  end)

  it("are no deadlock, and a bounded memory #slow", function()
    assert.are.equal("true\ttrue\n", faults.output((job:gsub(
      "= N", "= 100000")), { limit = 120 }))
  end)
end)

describe("what a task prints", function()
  faults.guard(before_each, after_each)

  it("however much, harms no result", function()
    local out = gate.name()
    local result = faults.run([[
      local pool <close> = luapool.Pool(2)
      local bytes = {}
      for i = 0, 255 do bytes[i + 1] = string.char(i) end
      local block = table.concat(bytes):rep(4096)
      local function work(x)
        for i = 1, 10 do
          io.stdout:write(block)
          io.stderr:write(block)
        end
        return x * x
      end
      local list = pool:map(work, {1, 2, 3, 4}, 1)
      assert(list[1] == 1 and list[2] == 4 and list[3] == 9 and list[4] == 16)
    ]], { pipe = "cat >" .. out })
    assert.are.equal(40 << 20, #gate.read(out))
    assert.are.equal(40 << 20, #result.stderr)
  end)

  it("in lines does not mix with another's", function()
    local out = gate.name()
    faults.run([[
      local pool <close> = luapool.Pool(4)
      pool:map(function(x)
        local line = string.char(96 + x):rep(4095)
        for i = 1, 300 do print(line) end
      end, faults.numbers(8), 1)
    ]], { pipe = "cat >" .. out })
    local n = 0
    for line in io.lines(out) do
      assert.is_true(line == line:sub(1, 1):rep(4095))
      n = n + 1
    end
    assert.are.equal(2400, n)
  end)
end)
