-- shows how many times as fast two workers are as the serial loop
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local WORKERS = 2
local TASKS = 1000

local function spin(turns)
  local sum = 0
  for i = 1, turns do sum = sum + i % 7 end
  return sum
end

-- Turns of a task, so that the serial loop takes about `seconds`.
local function scale(weights, seconds)
  local total = 0
  for _, weight in ipairs(weights) do total = total + weight end
  local turns = 5000000
  local start = harness.clock()
  spin(turns)
  local unit = turns * seconds / (harness.clock() - start) / total
  for i, weight in ipairs(weights) do weights[i] = weight * unit // 1 | 0 end
  return weights
end

-- The same tasks dealt out in two halves of equal weight, one a process:
-- what this machine gives where nothing needs to be decided or sent.
local function halves(turns)
  local sorted = table.move(turns, 1, #turns, 1, {})
  table.sort(sorted)
  harness.raw.split(WORKERS, function(half)
    for i = half, #sorted, WORKERS do spin(sorted[i]) end
  end)
end

local function measure(name, weights, goal)
  local turns = scale(weights, 2)
  local pool <close> = luapool.Pool(WORKERS)
  local function timed(run)
    return function() return harness.each(1, run) end
  end
  harness.figure{
    name = name,
    unit = "s",
    rounds = 5,
    luapool = timed(function() pool:map(spin, turns) end),
    limit = timed(function() halves(turns) end),
    peer = timed(function()
      for _, n in ipairs(turns) do spin(n) end
    end),
    goals = {{"peer", goal}},
  }
end

local even, uneven = {}, {}
for i = 1, TASKS do
  even[i] = 1
  uneven[i] = i % 20 == 0 and 40 or 1
end
math.randomseed(20)
for i = TASKS, 2, -1 do
  local other = math.random(i)
  uneven[i], uneven[other] = uneven[other], uneven[i]
end

measure("1,000 even tasks (peer: the loop)", even, 1.9)
measure("one of 20 is 40 times longer", uneven, 1.85)
