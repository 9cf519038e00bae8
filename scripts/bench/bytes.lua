-- shows the throughput of 16 MiB strings, there and back
-- SPDX-License-Identifier: MIT
local harness = require "harness"

local SIZE = 16 << 20
local CALLS = 5
local text = ("x"):rep(SIZE)

-- A module of this process, so that the workers inherit the text.
package.loaded.texts = {
  get = function() return text end,
  length = function(s) return #s end,
}

local function measure(what, call, request, answer, place)
  harness.figure{
    name = ("16 MiB string as %s, %s"):format(what, place.name),
    unit = "ms",
    luapool = function() return harness.each(CALLS, call) end,
    limit = function() return harness.pipe(request, answer, CALLS, place) end,
    goals = {{"limit", 2}},
  }
end

for _, place in ipairs(harness.places) do
  local pool <close> = harness.pool(2, place)
  measure("result", function() return pool:apply("texts.get") end,
    20, SIZE, place)
  measure("argument", function() return pool:apply("texts.length", {text}) end,
    SIZE, 20, place)
end
harness.free()
