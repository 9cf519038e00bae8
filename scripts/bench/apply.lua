-- shows what one call costs, and one of many in flight
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local CALLS = 2000

local function round_trip(name, work, goals, place)
  local pool <close> = harness.pool(2, place)
  local function call(i) return pool:apply(work, {i}) end
  local request, answer = harness.bytes(pool, 100, call)
  harness.figure{
    name = ("apply, %s, %s"):format(name, place.name),
    unit = "us",
    luapool = function() return harness.each(CALLS, call) end,
    limit = function()
      return harness.pipe(request, answer, CALLS, place)
    end,
    peer = function() return harness.python("apply", CALLS, place) end,
    goals = goals,
  }
  harness.free()
end

local function in_flight()
  local pool <close> = luapool.Pool(2)
  local count = 10000
  harness.figure{
    name = "apply_async, one of 10,000",
    unit = "us",
    luapool = function()
      local futures = {}
      local start = harness.clock()
      for i = 1, count do futures[i] = pool:apply_async(math.abs, {i}) end
      for i = 1, count do futures[i]:get() end
      return (harness.clock() - start) / count
    end,
    peer = function() return harness.python("apply_async", count) end,
    goals = {{"peer", 10}},
  }
end

local function many_workers(place)
  local few <close> = harness.pool(8, place)
  local many <close> = harness.pool(64, place)
  local function calls(pool)
    return harness.each(CALLS, function(i) pool:apply(math.abs, {i}) end)
  end
  harness.figure{
    name = "apply, 64 against 8 workers, " .. place.name,
    unit = "us",
    luapool = function() return calls(many) end,
    limit = function() return calls(few) end,
    goals = {{"limit", 1.2}},
  }
  harness.free()
end

local base = 3
local function closure(n) return n + base end

for _, place in ipairs(harness.places) do
  round_trip("math.abs", math.abs, {{"limit", 1.3}, {"peer", 15}}, place)
  round_trip("a closure", closure, {{"limit", 1.6}}, place)
  many_workers(place)
end
in_flight()
