-- shows the private memory of an idle worker
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local WORKERS = 4

local function private_kb(pid)
  local kb = 0
  for line in io.lines(("/proc/%d/smaps_rollup"):format(pid)) do
    kb = kb + (line:match("^Private_%a+:%s*(%d+) kB") or 0)
  end
  return kb
end

-- The largest of the workers.
local function worst(pool)
  local kb = 0
  for _, worker in ipairs(pool:stats()) do
    kb = math.max(kb, private_kb(worker.pid))
  end
  return kb
end

local function double(n) return 2 * n end

-- Makes about 20 KB of garbage: some hundreds of these finish collections.
local function litter(n)
  local rows = {}
  for i = 1, 200 do rows[i] = {i, n} end
  return #rows
end

local function measure(name, work, tasks, goals)
  collectgarbage()
  local items = {}
  for i = 1, tasks do items[i] = i end
  harness.figure{
    name = name,
    unit = "KB",
    luapool = function()
      local pool <close> = luapool.Pool(WORKERS)
      pool:map(work, items, #items // WORKERS)
      return worst(pool)
    end,
    goals = goals,
  }
end

local function name()
  return ("idle worker, heap of %.1f MB"):format(collectgarbage("count") / 1024)
end

measure(name(), double, WORKERS, {{"most", 600}})

local rows = {}
for i = 1, 100000 do rows[i] = {i} end
measure(name(), double, WORKERS)
measure("  after 1,000 tasks that litter", litter, 1000 * WORKERS)
assert(#rows == 100000)
