-- SPDX-License-Identifier: MIT
-- Limits of time under hard conditions: tasks that do not listen, a job that
-- was stopped and goes on, a cancel that comes as the task ends.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"
local leaks = require "spec.support.leaks"

local square = faults.square

describe("a task past its time", function()
  faults.guard(before_each, after_each)

  local tasks = {
    ["in a loop"] = function() while true do end end,
    ["in a loop of pcalls"] = function()
      while true do pcall(function() while true do end end) end
    end,
    ["in a C function"] = function()
      return ("a"):rep(200):find(("a-"):rep(6) .. "b")
    end,
    ["that ignores SIGTERM"] = function()
      os.execute "trap '' TERM; sleep 60; sleep 60"
    end,
    ["that is stopped"] = function() harm.kill(leaks.pid(), 19) end,
    ["with children of its own"] = function()
      os.execute "sleep 61 & sleep 62 & sleep 63"
    end,
    ["in a child's hands"] = function()
      harm.fork(60)
      gate.sleep(60)
    end,
  }
  for what, task in pairs(tasks) do
    it("is killed, and alone: " .. what, function()
      local pool = faults.pool(2)
      local before = leaks.children()
      local begun = gate.now()
      local e = faults.costs_one(pool, "timeout", task, { timeout = 0.3 })
      assert.is_nil(e.signal)
      assert.is_true(gate.now() - begun < 5)
      -- The new worker is the only child that was not there.
      local new = 0
      for pid in pairs(leaks.children()) do
        if not before[pid] then new = new + 1 end
      end
      assert.are.equal(1, new)
    end)
  end

  it("is killed together with all that it started", function()
    local pool = faults.pool(1)
    local path = gate.name()
    local function work()
      gate.mark(path, tostring(harm.fork(60)) .. "\n")
      os.execute("echo $$ >>" .. path .. "; sleep 60")
    end
    local future = pool:apply_async(work, {}, { timeout = 0.3 })
    faults.failure(future, "timeout")
    local pids = {}
    for pid in gate.read(path):gmatch "%d+" do pids[#pids + 1] = pid end
    assert.are.equal(2, #pids)
    gate.eventually(function() return faults.none_alive(pids) end, 1)
    faults.sound(pool)
  end)
end)

describe("a job that was stopped and continued", function()
  faults.guard(before_each, after_each)

  -- Tasks that need half a second of their own, with a second to do it in; the
  -- whole job is stopped in the middle of the first of them.
  local job = [[
    local function work(x)
      for i = 1, 10 do
        local till = gate.now() + 0.05
        repeat until gate.now() >= till
      end
      return x * x
    end
    local pool <close> = luapool.Pool(2)
    print "running" io.stdout:flush()
    local results, errs = pool:map(work, faults.numbers(6),
      {on_error = "collect", HOW})
    for i = 1, 6 do print(results[i], errs[i]) end
    print(pool:stats().restarts)
  ]]
  local good = "running\n1\tnil\n4\tnil\n9\tnil\n16\tnil\n25\tnil\n36\tnil\n0\n"

  local function stopped_for(seconds, how)
    local program = faults.start((job:gsub("HOW", how)))
    program:wait_for "running"
    gate.sleep(0.2)
    local pids = program:processes()
    faults.kill(pids, "STOP")
    gate.sleep(seconds)
    faults.kill(pids, "CONT")
    local result = program:wait()
    assert.are.equal("", result.stderr)
    assert.are.equal(good, result.stdout)
    assert.are.equal(0, result.status)
    assert.is_true(result.seconds > seconds + 1)
  end

  for _, how in ipairs { "timeout = 1.2", "deadline = 4" } do
    it("finds no limit passed: " .. how, function() stopped_for(3, how) end)
    it("finds no limit passed after 5 s #slow: " .. how, function()
      stopped_for(5, how)
    end)
  end

  it("finds no limit passed though it was stopped twice #slow", function()
    local program = faults.start((job:gsub("HOW", "timeout = 1.2")))
    program:wait_for "running"
    for _ = 1, 2 do
      gate.sleep(0.3)
      local pids = program:processes()
      faults.kill(pids, "STOP")
      gate.sleep(3)
      faults.kill(pids, "CONT")
    end
    assert.are.equal(good, program:wait().stdout)
  end)

  it("kills what is late all the same", function()
    local program = faults.start [[
      local pool <close> = luapool.Pool(2)
      print "running" io.stdout:flush()
      local begun = gate.now()
      local e = pool:apply_async(function() while true do end end, {},
        {timeout = 1}):exception()
      print(e.kind, gate.now() - begun < 6)
    ]]
    program:wait_for "running"
    gate.sleep(0.2)
    local pids = program:processes()
    faults.kill(pids, "STOP")
    gate.sleep(2.5)
    faults.kill(pids, "CONT")
    assert.are.equal("running\ntimeout\ttrue\n", program:wait().stdout)
  end)

  it("takes in first what had arrived where it was only busy", function()
    local pool = faults.pool(1)
    local future = pool:apply_async(square, { 3 }, { timeout = 0.2 })
    gate.sleep(0.5)
    assert.are.equal(9, faults.get(future))
    assert.are.equal(0, pool:stats().restarts)
  end)
end)

describe("a cancel that comes as the task ends", function()
  faults.guard(before_each, after_each)

  local function races(n)
    local pool = faults.pool(1)
    local lost, cancelled = 0, 0
    for i = 1, n do
      local future = pool:apply_async(square, { i })
      local behind = pool:apply_async(square, { i + 1 })
      for _ = 1, i % 5 do pool:poll(0) end
      if future:cancel() then
        cancelled = cancelled + 1
        errors.of("cancelled", future.get, future)
      else
        assert.are.equal(i * i, future:get())
      end
      if not pcall(faults.get, behind) then lost = lost + 1 end
      assert.are.equal((i + 1) ^ 2, behind:get())
    end
    assert.are.equal(0, lost)
    faults.sound(pool)
    return cancelled
  end

  it("never costs the next task", function() races(1000) end)

  it("never costs the next task, 10,000 times #slow", function()
    races(10000)
  end)

  it("never costs the next task of several workers", function()
    local pool = faults.pool(3)
    for i = 1, 200 do
      local futures = {}
      for j = 1, 9 do futures[j] = pool:apply_async(square, { j }) end
      for j = 1, 9, 2 do
        if i % 3 > 0 then pool:poll(0) end
        futures[j]:cancel()
      end
      for j = 2, 9, 2 do assert.are.equal(j * j, faults.get(futures[j])) end
    end
    faults.sound(pool)
  end)
end)
