-- shows the one changed line: a plain loop, then the same work on all cores
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local clock = require("luapool.host").clock

-- The first n odd numbers add up to n * n: slow, so worth sharing out.
local function square(n)
  local sum = 0
  for odd = 1, 2 * n, 2 do sum = sum + odd end
  return sum
end

local numbers = {}
for i = 1, 1000 do numbers[i] = 300000 + i end

local start = clock()
local serial = {}
for i, n in ipairs(numbers) do serial[i] = square(n) end
local serial_time = clock() - start

start = clock()
local parallel = luapool.map(square, numbers)  -- the one changed line
local parallel_time = clock() - start

for i, n in ipairs(numbers) do
  assert(serial[i] == n * n and parallel[i] == n * n)
end
print(("%d squares, the last one %d * %d = %d"):format(
  #parallel, numbers[#numbers], numbers[#numbers], parallel[#parallel]))
print(("serial loop  %.2f s"):format(serial_time))
print(("luapool.map  %.2f s"):format(parallel_time))
print(("speed-up     %.2f (workers: %d)"):format(
  serial_time / parallel_time, luapool.cpu_count()))
