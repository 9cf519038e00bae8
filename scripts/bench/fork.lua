-- shows the life of a pool: made, used once, ended
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local LIVES = 20

harness.figure{
  name = "Pool(2), one task, its end",
  unit = "ms",
  luapool = function()
    return harness.each(LIVES, function(i)
      local pool <close> = luapool.Pool(2)
      pool:apply(math.abs, {i})
    end)
  end,
  limit = function()
    return harness.each(LIVES, function() harness.raw.life(2) end)
  end,
  peer = function() return harness.python("life", LIVES) end,
  goals = {{"limit", 2}},
}
