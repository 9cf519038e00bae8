-- shows limits in time: of each task, of a whole call, of one's own patience
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local pool <close> = luapool.Pool(2)

local function spin(n)
  while n == 3 do end  -- item 3 never ends
  return n * n
end

-- timeout: seconds one task may run. Only that task fails.
local squares, errors = pool:map(spin, {1, 2, 3, 4},
  {timeout = 0.2, on_error = "collect"})
for i = 1, 4 do
  print("square of " .. i, squares[i] or errors[i].kind)
end

-- deadline: seconds the whole call may take. What is done is kept.
local ok, err = pcall(pool.map, pool, spin, {1, 2, 3, 4},
  {deadline = 0.2, chunksize = 1})
print("deadline", ok, err.kind, "first result " .. err.results[1])

-- A future can be waited for in small steps, and given up.
local future = pool:apply_async(spin, {3})
print("ready after 0.1 s", future:wait(0.1))
print("cancelled", future:cancel())
