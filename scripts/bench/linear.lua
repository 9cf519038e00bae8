-- shows that time grows with the bytes and no faster, from 1 to 256 MiB
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"

local SMALL, LARGE = 16, 256

local function string_of(mib)
  return ("x"):rep(mib << 20)
end

-- Rows of about 128 bytes of heap, the slot in the list included.
local function table_of(mib)
  local rows = {}
  for i = 1, mib << 13 do rows[i] = {i, -i, i / 2} end
  return rows
end

-- A module of this process, so that the workers inherit the value.
local held = {
  get = function() return package.loaded.held.value end,
  count = function(value) return #value end,
}
package.loaded.held = held

-- Seconds a MiB.
local function cost(make, what, mib)
  held.value = make(mib)
  collectgarbage()
  local pool <close> = luapool.Pool(1)
  local calls = math.max(1, SMALL // mib)
  local total = harness.each(calls, function()
    if what == "result" then return pool:apply("held.get") end
    return pool:apply("held.count", {held.value})
  end)
  held.value = nil
  collectgarbage()
  return total / mib
end

local function profile(make, what)
  local costs = {}
  for power = 0, 8 do
    costs[power + 1] = ("%.2f"):format(1000 * cost(make, what, 1 << power))
  end
  harness.note("ms a MiB at 1, 2, 4 ... 256 MiB: " .. table.concat(costs, " "))
end

local function measure(name, make, what)
  harness.figure{
    name = ("a MiB of %s, %s, of %d"):format(name, what, LARGE),
    unit = "ms",
    rounds = 5,
    luapool = function() return cost(make, what, LARGE) end,
    limit = function() return cost(make, what, SMALL) end,
    goals = {{"limit", 1.5}},
  }
  profile(make, what)
end

measure("string", string_of, "result")
measure("string", string_of, "argument")
measure("tables", table_of, "result")
measure("tables", table_of, "argument")
