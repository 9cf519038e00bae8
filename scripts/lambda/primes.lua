-- shows a Lambda handler with a pool, made once, over the items of each event
local json = require "luapool.json"
local luapool = require "luapool"

local function is_prime(n)
  for d = 2, math.floor(math.sqrt(n)) do
    if n % d == 0 then return false end
  end
  return n > 1
end

local pool = luapool.Pool() -- a worker for each CPU that the memory size gives

local M = {}

--- {"numbers": [2, 3, 4]} -> {"primes": [2, 3]}
function M.handler(event)
  local flags = pool:map(is_prime, event.numbers)
  local primes = setmetatable({}, json.array) -- [] and not {} where it is empty
  for i, n in ipairs(event.numbers) do
    if flags[i] then table.insert(primes, n) end
  end
  return { primes = primes }
end

return M
