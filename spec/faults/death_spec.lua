-- SPDX-License-Identifier: MIT
-- The deaths of workers that spec/lifecycle_spec.lua leaves out: in the middle
-- of a result, with heirs, in great numbers.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"
local leaks = require "spec.support.leaks"

local numbers, square = faults.numbers, faults.square

local function large(mb) return ("x"):rep(mb << 20) end

describe("a worker that leaves", function()
  faults.guard(before_each, after_each)

  for _, status in ipairs { 0, 3 } do
    it("by a bare _exit costs the one task: " .. status, function()
      local pool = faults.pool(2)
      local e = faults.costs_one(pool, "lost", function() harm.exit(status) end)
      assert.are.equal(status, e.exitcode)
      assert.is_nil(e.signal)
      assert.is_truthy(tostring(e):find("status " .. status, 1, true))
    end)
  end

  for name, number in pairs(faults.signals) do
    if ("HUP ABRT KILL SEGV TERM USR1"):find(name) then
      it("by SIG" .. name .. " says so", function()
        local pool = faults.pool(2)
        local e = faults.costs_one(pool, "lost", function()
          harm.kill(leaks.pid(), number)
          gate.sleep(20)
        end)
        assert.are.equal(number, e.signal)
        assert.is_nil(e.exitcode)
        assert.is_false(leaks.alive(e.pid))
      end)
    end
  end
end)

describe("the message of a lost task", function()
  faults.guard(before_each, after_each)

  local function lost(signal)
    local pool = faults.pool(1)
    local pid = faults.pids(pool)[1]
    local function work(x)
      if x == 3 then harm.kill(leaks.pid(), signal) end
    end
    local _, errs = faults.get(pool:map_async(work, { 1, 2, 3 },
      { on_error = "collect" }))
    assert.are.equal(pid, errs[3].pid)
    return errs[3].message, pid
  end

  it("names worker, pid, signal, item and what to think of", function()
    local text, pid = lost(9)
    assert.are.equal(("worker 1 (pid %d) killed by SIGKILL (9), possibly out "
      .. "of memory, while running item 3"):format(pid), text)
  end)

  it("thinks of memory at SIGKILL alone", function()
    local text, pid = lost(11)
    assert.are.equal(("worker 1 (pid %d) killed by SIGSEGV (11) while running "
      .. "item 3"):format(pid), text)
  end)
end)

describe("a worker killed in the middle of a large result", function()
  faults.guard(before_each, after_each)

  before_each(function()
    if not faults.sees_waits() then pending "no /proc/PID/wchan here" end
  end)

  -- The worker is in the write of its result, of which `polls` looks of this
  -- process have taken a part.
  local function killed_while_writing(opts, polls)
    local pool = faults.pool(opts)
    local pid = pool:apply(leaks.pid)
    local first = pool:apply_async(square, { 3 })
    local future = pool:apply_async(large, { 50 })
    local others = {}
    for i = 1, 8 do others[i] = pool:apply_async(square, { i }) end
    if #pool == 1 then
      faults.wait_until_writing(pid)
    else
      gate.eventually(function()
        for _, p in ipairs(faults.pids(pool)) do
          if (faults.waits_in(p) or ""):find "pipe_write" then
            pid = p
            return true
          end
        end
      end)
    end
    for _ = 1, polls do
      pool:poll(0)
      faults.wait_until_writing(pid)
    end
    faults.kill(pid, "KILL")
    local e = faults.failure(future, "lost")
    assert.are.equal(9, e.signal)
    assert.are.equal(pid, e.pid)
    assert.are.equal(9, faults.get(first))
    for i = 1, 8 do assert.are.equal(i * i, faults.get(others[i])) end
    faults.sound(pool)
  end

  for _, polls in ipairs { 0, 1, 5 } do
    it("costs that task, of one worker, after reads: " .. polls, function()
      killed_while_writing({ 1 }, polls)
    end)
  end

  it("costs that task, of two workers", function()
    killed_while_writing({ 2 }, 1)
  end)

  it("costs that task under spawn", function()
    killed_while_writing({ 1, start_method = "spawn" }, 1)
  end)

  it("keeps the results of its chunk that were before it", function()
    local pool = faults.pool(1)
    local pid = pool:apply(leaks.pid)
    local function work(x) return x == 3 and large(20) or x * x end
    local future = pool:map_async(work, numbers(5),
      { chunksize = 5, on_error = "collect" })
    faults.wait_until_writing(pid)
    faults.kill(pid, "KILL")
    local results, errs = faults.get(future)
    assert.are.same({ 1, 4, nil, 16, 25 }, { table.unpack(results, 1, 5) })
    assert.are.equal(1, leaks.size(errs))
    assert.is_true(errors.is("lost", errs[3]))
    faults.sound(pool)
  end)

  it("that was written whole loses nothing", function()
    local pool = faults.pool(1)
    local pid = pool:apply(leaks.pid)
    local future = pool:apply_async(large, { 0 })
    local small = pool:apply_async(string.rep, { "y", 10000 })
    faults.wait_until_idle(pid)
    faults.kill(pid, "KILL")
    gate.eventually(function() return not leaks.alive(pid) end)
    assert.are.equal("", faults.get(future))
    assert.are.equal(10000, #faults.get(small))
    faults.sound(pool)
  end)
end)

describe("a worker that dies while an heir holds its pipes", function()
  faults.guard(before_each, after_each)

  for _, session in ipairs { false, true } do
    it("is noticed promptly, own session: " .. tostring(session), function()
      local pool = faults.pool(2)
      local path = gate.name()
      local function work()
        gate.mark(path, tostring(harm.fork(60, session)))
        harm.kill(leaks.pid(), 9)
      end
      pool:map(square, numbers(10))
      local future = pool:apply_async(work)
      gate.wait(path)
      local begun = gate.now()
      assert.are.equal(9, faults.failure(future, "lost").signal)
      local took = gate.now() - begun
      faults.sound(pool)
      local heir = math.tointeger(gate.read(path))
      if session then
        assert.is_true(leaks.alive(heir)) -- it held them all the time
        faults.kill(heir, "KILL")
      end
      gate.eventually(function() return not leaks.alive(heir) end)
      assert.is_true(took < 1, took)
    end)
  end

  it("in the middle of a result is noticed promptly", function()
    if not faults.sees_waits() then pending "no /proc/PID/wchan here" end
    local pool = faults.pool(1)
    local path = gate.name()
    local function work()
      gate.mark(path, tostring(harm.fork(60, true)))
      return large(20)
    end
    local pid = pool:apply(leaks.pid)
    local future = pool:apply_async(work)
    gate.wait(path)
    faults.wait_until_writing(pid)
    pool:poll(0)
    faults.kill(pid, "KILL")
    local begun = gate.now()
    faults.failure(future, "lost")
    local took = gate.now() - begun
    faults.sound(pool)
    faults.kill(math.tointeger(gate.read(path)), "KILL")
    assert.is_true(took < 1, took)
  end)
end)

describe("workers killed while idle", function()
  faults.guard(before_each, after_each)

  it("are replaced, whatever their number", function()
    local pool = faults.pool(13)
    faults.sound(pool)
    for _ = 1, 2 do
      local pids = faults.pids(pool)
      faults.kill(pids, "KILL")
      gate.eventually(function() return faults.none_alive(pids) end)
      assert.are.equal(100, #faults.get(pool:map_async(square, numbers(100))))
    end
    faults.sound(pool)
    assert.are.equal(26, pool:stats().restarts)
  end)

  it("are replaced time after time, with a task between", function()
    local pool = faults.pool(1)
    for i = 1, 30 do
      faults.kill(faults.pids(pool), "KILL")
      gate.eventually(function()
        pool:poll(0)
        return pool:stats().restarts == i
      end)
      assert.are.equal(9, faults.get(pool:apply_async(square, { 3 })))
    end
    faults.sound(pool)
  end)

  it("cost no task sent to them at that moment", function()
    local pool = faults.pool { 2, max_restarts = 1000 }
    for i = 1, 50 do
      local futures = {}
      for j = 1, 3 do futures[j] = pool:apply_async(square, { j }) end
      for j = 1, 3 do assert.are.equal(j * j, faults.get(futures[j])) end
      faults.kill(faults.pids(pool)[i % 2 + 1], "KILL")
    end
    faults.sound(pool)
  end)
end)

describe("workers that kill each other", function()
  faults.guard(before_each, after_each)

  -- Every future ends, in a value of its own or in an allowed kind.
  local function murders(opts, n, kinds)
    local pool = faults.pool(opts)
    local function murder(x, list)
      pcall(harm.kill, list[math.random(#list)], 9)
      return x * x
    end
    local futures = {}
    for i = 1, n do
      futures[i] = pool:apply_async(murder, { i, faults.pids(pool) })
    end
    local done = 0
    for i = 1, n do
      local e = futures[i]:exception(20)
      if e then
        assert.is_truthy(kinds:find(e.kind, 1, true), tostring(e))
      else
        assert.are.equal(i * i, futures[i]:get())
        done = done + 1
      end
    end
    if kinds == "lost" then faults.sound(pool) end
    pool:terminate()
    return done
  end

  it("settle every future", function()
    murders({ 13, max_restarts = 10000 }, 100, "lost")
  end)

  it("settle every future, broken or not", function()
    murders({ 13 }, 100, "lost broken")
  end)

  it("settle every future, many times #slow", function()
    for _ = 1, 20 do
      murders({ 13, max_restarts = 100000 }, 500, "lost")
    end
  end)
end)

describe("tasks that crash", function()
  faults.guard(before_each, after_each)

  it("all of them break the pool, and no fork follows", function()
    local path = gate.name()
    local pool = faults.pool(2)
    local function work()
      gate.mark(path)
      harm.kill(leaks.pid(), 9)
    end
    local futures = {}
    for i = 1, 100 do futures[i] = pool:apply_async(work) end
    local kinds = {}
    for i = 1, 100 do
      local e = futures[i]:exception(20)
      kinds[e.kind] = (kinds[e.kind] or 0) + 1
      if e.kind == "broken" then
        assert.is_truthy(e.message:find("SIGKILL (9)", 1, true))
      end
    end
    assert.are.equal(100, kinds.lost + kinds.broken)
    assert.is_true(kinds.broken > 80)
    assert.is_true(gate.count(path) <= 13)
    local runs = gate.count(path)
    pool:poll(0.1)
    assert.are.equal(runs, gate.count(path))
    errors.of("broken", pool.apply, pool, square, { 1 })
    pool:terminate()
  end)

  it("a hundred among a thousand good ones do not", function()
    local pool = faults.pool(2)
    local function work(x)
      if x % 11 == 0 then harm.kill(leaks.pid(), 11) end
      return x * x
    end
    local results, errs = faults.get(pool:map_async(work, numbers(1100),
      { on_error = "collect" }))
    assert.are.equal(100, leaks.size(errs))
    for i = 1, 1100 do
      if i % 11 == 0 then
        assert.are.equal(11, errs[i].signal)
        assert.are.equal(i, errs[i].index)
      else
        assert.are.equal(i * i, results[i])
      end
    end
    faults.sound(pool)
  end)
end)

describe("workers recycled after each task", function()
  faults.guard(before_each, after_each)

  -- A fork of a large process takes long: the calls' arguments are in this one,
  -- those of the map are one string until they are sent.
  local function backlog(calls, items)
    local pool = faults.pool { 2, maxtasksperchild = 1 }
    local argument = large(1)
    local function work(x, s) return x + #s end
    local futures, list = {}, {}
    for i = 1, calls do
      futures[i] = pool:apply_async(work, { i, argument })
    end
    for i = 1, items do list[i] = { i, argument } end
    local results = faults.get(pool:starmap_async(work, list), 200)
    for i = 1, calls do
      assert.are.equal(i + (1 << 20), faults.get(futures[i]))
    end
    for i = 1, items do assert.are.equal(i + (1 << 20), results[i]) end
    faults.sound(pool)
  end

  it("lose nothing of a backlog", function() backlog(20, 60) end)

  it("lose nothing of a long backlog #slow", function() backlog(100, 1000) end)
end)

describe("a system call that kills its process", function()
  faults.guard(before_each, after_each)

  -- The job of the sweep: it ends with 0, 1 after a failure of some kind that
  -- is no wonder, or 137.
  local job = gate.read "spec/support/sweep_job.lua"

  before_each(function() faults.needs_strace(pending) end)

  local function swept(inject)
    local result = faults.run(job, { under = faults.strace(inject) })
    assert.is_truthy(({ [0] = true, [1] = true, [137] = true })
      [result.status], inject .. ": " .. result.status .. result.stderr)
    return result.status
  end

  for _, call in ipairs { "read", "write", "writev", "poll", "ppoll",
    "epoll_wait", "epoll_pwait", "close", "pipe2", "fcntl", "clone", "wait4",
    "waitid", "pidfd_open", "prctl", "mmap", "brk", "munmap" } do
    it("leaves nothing behind at any time #slow: " .. call, function()
      for when = 1, 8 do
        swept(("%s:signal=KILL:when=%d"):format(call, when))
      end
    end)
  end

  it("is one of a whole job, whose kinds are those of losses #slow", function()
    local seen = {}
    for when = 1, 40 do
      seen[swept("mmap:signal=KILL:when=" .. when)] = true
      seen[swept("read:signal=KILL:when=" .. when)] = true
    end
    assert.is_true(seen[137] and seen[0])
  end)

  for _, inject in ipairs {
    "read:signal=KILL:when=4", "writev:signal=KILL:when=1",
    "writev:signal=KILL:when=3", "epoll_wait:signal=KILL:when=2",
    "close:signal=KILL:when=8", "pipe2:signal=KILL:when=2",
    "clone:signal=KILL:when=1", "waitid:signal=KILL:when=1",
    "prctl:signal=KILL:when=1", "pidfd_open:signal=KILL:when=2",
  } do
    it("leaves nothing behind: " .. inject, function()
      swept(inject)
    end)
  end
end)
