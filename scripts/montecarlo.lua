-- shows seeded random numbers: the same figure for any number of workers
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"

local workers = math.tointeger(tonumber(arg[1] or luapool.cpu_count()))
if not workers or workers < 0 or #arg > 1 then
  io.stderr:write("usage: luapool montecarlo.lua [WORKERS]\n",
    "Estimates pi. WORKERS is a whole number; 0 means in this process.\n")
  os.exit(2)
end

-- How many of `draws` random points of the unit square lie in the circle.
local function hits(draws)
  local inside = 0
  for _ = 1, draws do
    local x, y = math.random(), math.random()
    if x * x + y * y < 1 then inside = inside + 1 end
  end
  return inside
end

local batches, draws = {}, 0
for i = 1, 40 do
  batches[i] = 100000
  draws = draws + batches[i]
end

local pool <close> = luapool.Pool{processes = workers, seed = 1777}
local inside = 0
for _, count in ipairs(pool:map(hits, batches)) do inside = inside + count end
print(("pi is about %.6f after %d draws"):format(4 * inside / draws, draws))
