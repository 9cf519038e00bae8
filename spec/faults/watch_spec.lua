-- SPDX-License-Identifier: MIT
-- A program that waits elsewhere and knows of a pool only its descriptor: it
-- calls poll when that is readable, and nothing else.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"

local square = faults.square

-- Polls the pool whenever its descriptor is readable until `done` is true; a
-- second of silence is too long where `busy` seconds of work are to be done.
local function watch(pool, done, busy)
  local fd, limit = pool:fileno(), gate.now() + 20
  while not done() do
    if not harm.readable(fd, busy or 1) then
      error("nothing tells that there is something to do", 2)
    elseif gate.now() > limit then
      error("it never ends", 2)
    end
    pool:poll(0)
  end
end

-- A flag that a callback of a call sets.
local function outcome()
  local got = {}
  return got, {
    callback = function(...) got.values = table.pack(...) end,
    error_callback = function(e) got.error = e end,
  }
end

local function settled(got)
  return function() return got.values or got.error end
end

describe("a pool that is watched by its descriptor", function()
  faults.guard(before_each, after_each)

  for _, processes in ipairs { 0, 1, 3 } do
    it("completes its calls, of so many workers: " .. processes, function()
      local pool = faults.pool(processes)
      local got, opts = outcome()
      pool:map_async(square, faults.numbers(1000), opts)
      watch(pool, settled(got))
      assert.are.equal(1000, #got.values[1])
      local single
      single, opts = outcome()
      pool:apply_async(square, { 7 }, opts)
      watch(pool, settled(single))
      assert.are.equal(49, single.values[1])
    end)
  end

  it("takes large arguments and results", function()
    local pool = faults.pool(2)
    local got, opts = outcome()
    pool:map_async(string.upper, { ("x"):rep(5 << 20), ("y"):rep(5 << 20) },
      opts)
    watch(pool, settled(got))
    assert.are.equal(5 << 20, #got.values[1][2])
  end)

  it("is quiet where nothing is to be done", function()
    local pool = faults.pool(2)
    pool:apply(square, { 1 })
    local fd = pool:fileno()
    gate.eventually(function()
      pool:poll(0)
      return not harm.readable(fd, 0.1)
    end)
    assert.is_false(harm.readable(fd, 0.2))
  end)

  it("tells of limits that pass", function()
    local pool = faults.pool(1)
    local got, opts = outcome()
    opts.timeout = 0.2
    pool:apply_async(function() while true do end end, {}, opts)
    watch(pool, settled(got))
    assert.is_true(errors.is("timeout", got.error))
    got, opts = outcome()
    opts.deadline = 0.2
    pool:map_async(function() while true do end end, { 1, 2 }, opts)
    watch(pool, settled(got))
    assert.is_true(errors.is("timeout", got.error))
  end)

  it("tells of deaths, and replaces the dead", function()
    local pool = faults.pool(2)
    local got, opts = outcome()
    pool:apply_async(os.exit, { 3 }, opts)
    watch(pool, settled(got))
    assert.are.equal(3, got.error.exitcode)
    faults.kill(faults.pids(pool), "KILL")
    watch(pool, function() return pool:stats().restarts == 3 end)
    faults.sound(pool)
  end)

  it("tells of replacements that are due", function()
    local pool = faults.pool { 1, max_restarts = 30 }
    local got, opts = outcome()
    opts.on_error = "collect"
    pool:map_async(function() harm.exit(1) end, faults.numbers(8), opts)
    watch(pool, settled(got), 2)
    assert.are.equal(8, #got.values[2])
  end)

  it("has no descriptor once it has ended", function()
    local pool = faults.pool(1)
    pool:fileno()
    pool:terminate()
    errors.of("closed", pool.fileno, pool)
  end)

  it("ends within a wait for several", function()
    local luapool = require "luapool"
    local first, second = faults.pool(1), faults.pool(1)
    local ended = first:apply_async(gate.sleep, { 20 })
    local other = second:apply_async(square, { 3 },
      { callback = function() first:terminate() end })
    local done = luapool.wait({ ended, other }, { timeout = 10 })
    assert.are.equal(2, #done)
    errors.of("terminated", ended.get, ended)
  end)
end)
