-- shows starmap: primes counted range by range, two arguments a task
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"

local limit = math.tointeger(tonumber(arg[1] or 1000000))
if not limit or limit < 1 or #arg > 1 then
  io.stderr:write("usage: luapool primes.lua [LIMIT]\n",
    "Counts the primes up to LIMIT, a whole number from 1 on.\n")
  os.exit(2)
end

local function is_prime(n)
  if n < 4 then return n > 1 end
  if n % 2 == 0 then return false end
  for d = 3, math.floor(math.sqrt(n)), 2 do
    if n % d == 0 then return false end
  end
  return true
end

local function count_primes(first, last)
  local count = 0
  for n = first, last do
    if is_prime(n) then count = count + 1 end
  end
  return count
end

local ranges, step = {}, 10000
for first = 1, limit, step do
  ranges[#ranges + 1] = {first, math.min(first + step - 1, limit)}
end

local pool <close> = luapool.Pool()
local total = 0
for _, count in ipairs(pool:starmap(count_primes, ranges)) do
  total = total + count
end
print(("%d primes up to %d"):format(total, limit))
