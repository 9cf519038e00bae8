-- SPDX-License-Identifier: MIT
-- Invocations: pieces of work in a process that lives on, with an environment
-- of their own, an end to all waiting, and nothing that runs on after them.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"
local invocation = require "luapool.invocation"
local leaks = require "spec.support.leaks"

local NAME = "LUAPOOL_SPEC_INVOCATION"
local SLACK = 2 -- seconds that a busy machine may add

local function seen() return os.getenv(NAME) end

local function printed()
  local pipe <close> = assert(io.popen("printenv " .. NAME))
  return pipe:read "a"
end

-- Runs until it is killed.
local function hang(path)
  gate.mark(path)
  gate.sleep(60)
end

local function ignore_term(path)
  harm.ignore(15)
  hang(path)
end

local function elapsed(f, ...)
  local begun = gate.now()
  f(...)
  return gate.now() - begun
end

local function guard()
  after_each(function() -- before the pools end, which is a wait, too
    invocation.finish()
    invocation.setenv(NAME, nil)
  end)
  faults.guard(before_each, after_each)
end

describe("invocation.setenv", function()
  guard()

  it("sets and removes a variable of this process", function()
    invocation.setenv(NAME, "here")
    assert.are.equal("here", seen())
    assert.are.equal("here\n", printed())
    invocation.setenv(NAME, nil)
    assert.is_nil(seen())
    assert.are.equal("", printed())
  end)

  for _, method in ipairs { "fork", "spawn" } do
    it("is seen by workers there are, and later ones: " .. method, function()
      local pool = faults.pool { 2, start_method = method }
      local values = { "a", "", "b=c", "two\nlines", nil, "again" }
      for i = 1, 6 do
        invocation.setenv(NAME, values[i])
        -- The first apply brings it, the second goes the short way.
        assert.are.equal(values[i], pool:apply(seen))
        assert.are.equal(values[i], pool:apply(seen))
        local all = pool:map(seen, { 1, 2, 3, 4 }, 1)
        for n = 1, 4 do assert.are.equal(values[i], all[n]) end
      end
      assert.are.equal("again\n", pool:apply(printed))
      faults.kill(faults.pids(pool), "KILL")
      assert.are.same({ "again", "again" }, pool:map(seen, { 1, 2 }, 1))
      pool:restart()
      assert.are.same({ "again", "again" }, pool:map(seen, { 1, 2 }, 1))
    end)
  end

  it("reaches the pools that workers have", function()
    local pool = faults.pool(1)
    local function inner()
      own = own or require "luapool".Pool(1) -- luacheck: ignore 111 113
      return own:apply(seen) -- luacheck: ignore 113
    end
    for _, value in ipairs { "one", "two" } do
      invocation.setenv(NAME, value)
      assert.are.equal(value, pool:apply(inner))
    end
  end)

  it("holds in a pool without workers", function()
    local pool = faults.pool(0)
    invocation.setenv(NAME, "inline")
    assert.are.equal("inline", pool:apply(seen))
  end)

  it("can be repeated without end", function()
    if gate.read "/proc/self/maps":find "libasan" then
      pending "a sanitizer keeps what is freed"
    end
    local function pages()
      return tonumber(gate.read("/proc/self/statm"):match "^%d+ (%d+)")
    end
    local before
    for i = 1, 40000 do
      invocation.setenv(NAME, ("x"):rep(500) .. i)
      if i == 10000 then before = pages() end
    end
    assert.is_true(pages() - before < 1000) -- of 4 KiB; 15 MB were set
  end)

  it("refuses what no environment holds", function()
    errors.misuse_naming("bad argument #1 to 'setenv'",
      function() invocation.setenv(1, "x") end)
    errors.misuse_naming("bad argument #2 to 'setenv'",
      function() invocation.setenv(NAME, true) end)
    for _, name in ipairs { "", "a=b", "a\0b" } do
      assert.is_false((pcall(invocation.setenv, name, "x")), name)
      assert.is_false((pcall(invocation.setenv, name, nil)), name)
    end
    assert.is_false((pcall(invocation.setenv, NAME, "a\0b")))
    assert.is_nil(seen())
  end)
end)

describe("invocation.finish", function()
  guard()

  -- Starts n tasks that wait for their end, and is there when they run.
  local function start(pool, task, n)
    local path = gate.name()
    local futures = {}
    for i = 1, n do futures[i] = pool:apply_async(task, { path }) end
    gate.eventually(function()
      pool:poll(0)
      return gate.count(path) >= math.min(n, #pool)
    end)
    return futures
  end

  it("is quick where nothing is pending", function()
    local pool = faults.pool(2)
    local pids = faults.pids(pool)
    assert.are.same({}, invocation.finish())
    assert.are.same(pids, faults.pids(pool))
    pool:close()
    pool:join()
    assert.are.same({}, invocation.finish())
  end)

  local stubborn = {
    ["a quiet one"] = hang,
    ["one in a loop"] = function(path)
      gate.mark(path)
      while true do end
    end,
    ["one that ignores SIGTERM"] = ignore_term,
    ["one that is stopped"] = function(path)
      gate.mark(path)
      harm.kill(leaks.pid(), faults.signals.STOP)
    end,
    ["one with programs of its own"] = function(path)
      gate.mark(path)
      os.execute "sleep 61 & sleep 62 & sleep 63"
    end,
  }
  for what, task in pairs(stubborn) do
    it("ends tasks and their processes: " .. what, function()
      local pool, other = faults.pool(2), faults.pool(1)
      local before = leaks.children()
      local idle = faults.pids(other)[1]
      local futures = start(pool, task, 4)
      local pids = faults.pids(pool)
      local lines
      assert.is_true(elapsed(function() lines = invocation.finish() end)
        < 0.05 + SLACK)
      assert.are.equal(3, #lines)
      assert.is_truthy(lines[1]:find "invocation_spec.lua:%d+ %(running%)$")
      assert.are.equal(lines[1], lines[2])
      assert.is_truthy(lines[3]:find ", 2 calls not started$")
      for _, future in ipairs(futures) do
        assert.is_true(future:cancelled())
        errors.of("cancelled", future.get, future)
      end
      -- The old ones are reaped, the new ones are there.
      for _, pid in ipairs(pids) do assert.is_nil(leaks.children()[pid]) end
      assert.are.equal(leaks.size(before), leaks.size(leaks.children()))
      assert.are.equal(idle, faults.pids(other)[1])
      assert.are.same({ 1, 4, 9 }, pool:map(faults.square, { 1, 2, 3 }))
      assert.are.same({}, invocation.finish())
    end)
  end

  it("names items, by call", function()
    local pool = faults.pool(2)
    local path = gate.name()
    local future = pool:map_async("spec.support.gate.wait",
      { path, path, path, path, path }, 1)
    gate.eventually(function()
      pool:poll(0)
      return future:running()
    end)
    faults.sound(faults.pool(1))
    gate.eventually(function()
      local n = 0
      for _, seat in ipairs(pool.scheduler.seats) do
        if seat:running() then n = n + 1 end
      end
      return n == 2
    end)
    assert.are.same({
      "spec.support.gate.wait, item 1 (running)",
      "spec.support.gate.wait, item 2 (running)",
      "spec.support.gate.wait, 3 items not started",
    }, invocation.finish())
    errors.of("cancelled", future.get, future)
  end)

  it("says at most so much", function()
    local pool = faults.pool(1)
    for _ = 1, 60 do pool:map_async(gate.sleep, { 60, 60 }) end
    local lines = invocation.finish()
    assert.are.equal(21, #lines)
    assert.is_truthy(lines[21]:find "^%.%.%. and %d+ more$")
  end)

  it("ends items of calls that are decided already", function()
    local pool = faults.pool(2)
    local path = gate.name()
    errors.of("task", pool.map, pool, function(i)
      if i == 2 then
        hang(path)
      end
      gate.wait(path)
      error "first"
    end, { 1, 2 }, 1)
    local lines = invocation.finish()
    assert.are.equal(1, #lines)
    assert.is_truthy(lines[1]:find ", item 2 %(running%)$")
    faults.sound(pool)
  end)

  it("abandons iterators", function()
    local pool = faults.pool(1)
    local it <close> = pool:imap(function(x) -- luacheck: ignore 211
      return x == 1 and 1 or gate.sleep(60)
    end, function() return 2 end)
    local other = pool:imap(gate.sleep, { 60, 60 })
    assert.is_false((pcall(function()
      invocation.begin(0.2)
      other()
    end)))
    assert.is_true(#invocation.finish() > 0)
    errors.of("cancelled", other)
    assert.is_nil(other())
    faults.sound(pool)
  end)

  it("runs callbacks, and ends what those submit", function()
    local pool = faults.pool(1)
    local told, second = 0, nil
    local future = start(pool, hang, 1)[1]
    future:add_done_callback(function()
      told = told + 1
      second = pool:apply_async(gate.sleep, { 60 })
    end)
    local lines = invocation.finish()
    assert.are.equal(1, told)
    assert.are.equal(2, #lines)
    assert.is_true(second:cancelled())
    faults.sound(pool)
  end)

  it("breaks a pool whose callbacks go on for ever", function()
    local pool = faults.pool(1)
    local last
    local function again(future)
      if not last or future:cancelled() then
        last = pool:apply_async(gate.sleep, { 60 })
        last:add_done_callback(again)
      end
    end
    again()
    invocation.finish()
    errors.of("broken", last.get, last)
    errors.of("broken", pool.apply, pool, faults.square, { 1 })
    pool:terminate()
  end)

  it("says nothing of those it has cancelled itself", function()
    local result = faults.run [[
      local invocation = require "luapool.invocation"
      local pool = luapool.Pool(2)
      pool:map_async(gate.sleep, { 60, 60, 60 })
      pool:apply_async(gate.sleep, { 60 })
      print(#invocation.finish())
      pool:close()
      pool:join()
    ]]
    assert.are.equal("", result.stderr)
    assert.are.equal(0, result.status)
  end)

  it("is for pools that were closed, left or lost, too", function()
    local closed, left = faults.pool(1), faults.pool(1)
    local future = start(closed, hang, 1)[1]
    closed:close()
    pcall(function()
      local pool <close> = left -- luacheck: ignore 211
      invocation.begin(0.1)
      start(left, hang, 1)
    end)
    do
      local lost = luapool.Pool(1)
      lost:apply_async(gate.sleep, { 60 })
    end
    assert.is_true(#invocation.finish() >= 2)
    assert.is_true(future:cancelled())
    closed:join(5)
  end)

  it("concerns this process alone", function()
    local pool = faults.pool(2)
    local function task()
      return #require "luapool.invocation".finish()
    end
    assert.are.same({ 0, 0, 0, 0 }, pool:map(task, { 1, 2, 3, 4 }, 1))
  end)

  it("ends what runs in no worker", function()
    local pool = faults.pool(0)
    local future = pool:map_async(faults.square, { 1, 2, 3 })
    local lines = invocation.finish()
    assert.are.equal(1, #lines)
    assert.is_truthy(lines[1]:find ", %d items not started$")
    errors.of("cancelled", future.get, future)
    assert.are.same({ 1, 4 }, pool:map(faults.square, { 1, 2 }))
  end)

  it("cannot be called while a pool is at work", function()
    local pool = faults.pool(1)
    local text
    -- Finalizers run wherever there is an allocation.
    local function litter()
      setmetatable({}, { __gc = function()
        if pool.scheduler.inside then
          text = select(2, pcall(invocation.finish))
        elseif not text then
          litter()
        end
      end })
    end
    litter()
    gate.eventually(function()
      pool:map(function(x) return { x, { x } } end, faults.numbers(2000))
      return text
    end)
    assert.are.equal("a pool is at work: an invocation cannot finish within it",
      text)
    faults.sound(pool)
  end)
end)

describe("the time of an invocation", function()
  guard()

  -- Seconds that f waits, and its error.
  local function waits(seconds, f, ...)
    invocation.begin(seconds)
    local begun = gate.now()
    local e = errors.of("timeout", f, ...)
    local took = gate.now() - begun
    assert.is_true(took >= seconds and took < seconds + SLACK)
    assert.is_truthy(e.message:find("the time of the invocation is up while "
      .. "waiting for ", 1, true))
    return e.message:match "waiting for (.*)$"
  end

  local SLEEP = "system.sleep"

  it("ends a map, and names its items", function()
    local pool = faults.pool(2)
    local pids = faults.pids(pool)
    assert.are.equal(SLEEP .. " (items 1 and 2 running, 4 not started)",
      waits(0.3, pool.map, pool, SLEEP, { 60, 60, 60, 60, 60, 60 }, 1))
    -- As Ctrl-C would: it is cancelled.
    assert.are.same({}, invocation.finish())
    assert.is_true(faults.none_alive(pids))
    faults.sound(pool)
  end)

  local ways = {
    apply = function(pool) return pool:apply(SLEEP, { 60 }) end,
    ["an apply of a function"] = function(pool)
      return pool:apply(gate.sleep, { 60 })
    end,
    ["get"] = function(_, future) return future:get() end,
    ["get with a time-out"] = function(_, future) return future:get(50) end,
    ["result"] = function(_, future) return future:result() end,
    ["wait"] = function(_, future) return future:wait() end,
    ["exception"] = function(_, future) return future:exception() end,
    ["luapool.wait"] = function(_, future) return luapool.wait { future } end,
    ["luapool.wait, on two pools"] = function(_, future, other)
      return luapool.wait { future, other }
    end,
    ["as_completed"] = function(_, future, other)
      return luapool.as_completed { future, other } ()
    end,
    ["imap"] = function(pool) return pool:imap(SLEEP, { 60 }) () end,
    ["imap_unordered"] = function(pool)
      return pool:imap_unordered(SLEEP, { 60 }) ()
    end,
    ["poll"] = function(pool) return pool:poll(60) end,
    ["join"] = function(pool)
      pool:close()
      return pool:join()
    end,
    ["restart"] = function(pool) return pool:restart() end,
    ["leaving a scope"] = function(pool)
      local _ <close> = pool
    end,
  }
  for way, f in pairs(ways) do
    it("ends " .. way, function()
      local pool, second = faults.pool(1), faults.pool(1)
      local future, other
      if way:find "^a" and not way:find "^as" then
        assert.is_truthy(waits(0.2, f, pool):find "%(running%)$")
      else
        future = pool:apply_async(SLEEP, { 60 })
        other = second:apply_async(SLEEP, { 60 })
        -- A restart waits for what runs only.
        gate.eventually(function() return future:running() end)
        local text = waits(0.2, f, pool, future, other)
        assert.is_truthy(text:find(SLEEP .. " (", 1, true))
      end
      -- From now on at once.
      invocation.begin(0)
      assert.is_true(elapsed(errors.of, "timeout", second.apply, second,
        gate.sleep, { 60 }) < SLACK)
      invocation.finish()
      faults.sound(second)
      if way ~= "join" and way ~= "leaving a scope" then
        faults.sound(pool)
      end
    end)
  end

  it("ends pools without workers between items", function()
    local pool = faults.pool(0)
    local runs = 0
    local function work()
      runs = runs + 1
      gate.sleep(0.15)
    end
    waits(0.2, pool.map, pool, work, { 1, 2, 3, 4 })
    assert.are.equal(2, runs)
    for _, call in ipairs { "imap", "imap_unordered" } do
      waits(0.2, function()
        for _ in pool[call](pool, work, function() return 1 end) do end
      end)
    end
  end)

  it("is over for those who only look", function()
    local pool = faults.pool(1)
    local future = pool:apply_async(SLEEP, { 60 })
    invocation.begin(0)
    assert.is_false(future:wait(0))
    assert.is_false(future:ready())
    pool:poll(0)
    local _, rest = luapool.wait({ future }, { timeout = 0 })
    assert.are.same({ future }, rest)
    local e = errors.of("timeout", future.get, future, 0)
    assert.is_truthy(e.message:find "no result within")
  end)

  it("leaves what is there to those who come for it", function()
    local pool = faults.pool(1)
    local future = pool:apply_async(faults.square, { 3 })
    future:wait()
    local second = pool:apply_async(faults.square, { 4 })
    gate.sleep(0.2)
    invocation.begin(0)
    assert.are.equal(9, future:get())
    assert.are.equal(16, second:get())
  end)

  it("may be caught, and the rest be done", function()
    local pool = faults.pool(1)
    local first = pool:apply_async(faults.square, { 3 })
    waits(0.2, pool.map, pool, SLEEP, { 60 })
    assert.are.equal(9, first:get())
    invocation.begin(nil)
    assert.are.equal(16, pool:apply(faults.square, { 4 }))
  end)

  it("is a limit beside others", function()
    local pool = faults.pool(1)
    local future = pool:apply_async(SLEEP, { 60 })
    invocation.begin(60)
    assert.is_false(future:wait(0.05))
    errors.of("timeout", future.get, future, 0.05)
    local e = errors.of("timeout", pool.apply, pool, SLEEP, { 60 },
      { deadline = 0.1 })
    assert.is_truthy(e.message:find "the call took more")
    invocation.finish()
    faults.sound(pool)
  end)

  it("ends with the invocation", function()
    local pool = faults.pool(1)
    invocation.begin(0)
    invocation.finish()
    assert.are.equal(4, pool:apply(faults.square, { 2 }))
  end)

  it("is not its children's", function()
    local pool = faults.pool(1)
    invocation.begin(0.3)
    pool:restart() -- the new worker is forked within it
    gate.sleep(0.3)
    invocation.begin(nil)
    assert.are.equal(9, pool:apply(function()
      local own <close> = require "luapool".Pool(1)
      return own:map(faults.square, { 3 })[1]
    end))
  end)

  it("names no more than can be read", function()
    local pool = faults.pool(1)
    for i = 1, 7 do
      pool:map_async(function() gate.sleep(60 + i) end, { 1, 2 })
    end
    for _ = 1, 3 do pool:apply_async(faults.square, { 1 }) end
    local last = pool:apply_async(faults.square, { 1 })
    local text = waits(0.1, last.get, last)
    local groups = {}
    for group in (text .. "; "):gmatch "(.-); " do
      groups[#groups + 1] = group
    end
    assert.are.equal(6, #groups)
    assert.are.equal("3 more calls", groups[6])
    local many = faults.pool(12)
    local items = {}
    for i = 1, 100 do items[i] = 60 end
    text = waits(0.5, many.map, many, SLEEP, items, 1)
    assert.are.equal(SLEEP .. " (items 1, 2, 3, 4, 5, 6, 7, 8 and 4 more "
      .. "running, 88 not started)", text)
  end)

  it("waits for no CPU", function()
    local pool = faults.pool(1)
    local cpu = os.clock()
    waits(1, pool.map, pool, SLEEP, { 60 })
    assert.is_true(os.clock() - cpu < 0.2)
  end)

  it("says what it is told wrongly", function()
    errors.misuse_naming("bad argument #1 to 'begin'",
      function() invocation.begin("1") end)
  end)
end)

describe("a process stopped in an invocation", function()
  faults.guard(before_each, after_each)

  local ways = {
    ["in a map"] = "pool:map(work, { 1, 2, 3, 4 }, 1)",
    ["in one task"] = "pool:apply(work, { 1 })",
    ["waiting for one pool, with another"] = [[
      local late = other:apply_async(function() work() work() end, {},
        { timeout = 1 })
      pool:map(work, { 1, 2 }, 1)
      late:get()
    ]],
    ["waiting for two pools"] = [[
      local futures = { pool:map_async(work, { 1, 2 }, 1),
        other:apply_async(work, { 2 }, { timeout = 1 }) }
      luapool.wait(futures)
      futures[1]:get()
      futures[2]:get()
    ]],
  }
  for way, call in pairs(ways) do
    it("does not find its time passed: " .. way, function()
      local running = faults.start([[
        local invocation = require "luapool.invocation"
        local function work()
          for _ = 1, 10 do
            local till = gate.now() + 0.03
            repeat until gate.now() >= till
          end
        end
        local pool, other = luapool.Pool(2), luapool.Pool(1)
        invocation.begin(1.5)
        print(leaks.pid())
        io.stdout:flush()
      ]] .. call .. " print 'done'")
      local pid = math.tointeger(running:wait_for "%d+")
      gate.sleep(0.1)
      local all = running:processes()
      faults.kill(all, "STOP")
      gate.sleep(2.5)
      assert.is_true(leaks.alive(pid))
      faults.kill(all, "CONT")
      local result = running:wait()
      assert.are.equal("", result.stderr)
      assert.is_truthy(result.stdout:find "done")
    end)
  end
end)
