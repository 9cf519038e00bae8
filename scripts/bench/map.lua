-- shows what one item of a long list costs
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local function increment(n) return n + 1 end

local function list(count)
  local items = {}
  for i = 1, count do items[i] = i end
  return items
end

local function timed(count, run)
  local start = harness.clock()
  run()
  return (harness.clock() - start) / count
end

local pool <close> = luapool.Pool(2)

local function map(name, count, opts, job, goal)
  local items = list(count)
  harness.figure{
    name = name,
    unit = "us",
    rounds = 5,
    luapool = function()
      return timed(count, function() pool:map(increment, items, opts) end)
    end,
    peer = function() return harness.python(job, count) end,
    goals = {{"peer", goal}},
  }
end

local function imap(name, count, opts, job, goal)
  local items = list(count)
  harness.figure{
    name = name,
    unit = "us",
    rounds = 5,
    luapool = function()
      return timed(count, function()
        local sum = 0
        for _, n in pool:imap(increment, items, opts) do sum = sum + n end
        assert(sum == count * (count + 3) // 2)
      end)
    end,
    peer = function() return harness.python(job, count) end,
    goals = {{"peer", goal}},
  }
end

map("map of 1,000,000 integers", 1000000, nil, "map_default", 2)
map("map of 100,000, chunksize 1", 100000, 1, "map_single", 8)
imap("imap of 200,000 integers", 200000, nil, "imap", 4)
imap("imap of 200,000, chunksize 1000", 200000, 1000, "imap_chunks")
