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
  faults.guard(before_each, after_each)
  leaks.finish(function()
    invocation.finish()
    invocation.setenv(NAME, nil)
  end)
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
