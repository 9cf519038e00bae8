-- shows values to bytes and back, beside lua-cjson
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local harness = require "harness"
local has_json, json = pcall(require, "cjson")

local COUNT = 10000
local CALLS = 3
local names = {"new", "sold", "red", "green", "blue", "used", "large"}

local records = {}
for i = 1, COUNT do
  local tags = {}
  for tag = 1, 3 do tags[tag] = names[(i * tag) % #names + 1] end
  records[i] = {id = i, name = "record " .. i, score = i / 7, tags = tags}
end

local function measure(name, f, peer, value, peer_value, goal)
  local function timed(g, v)
    collectgarbage()
    return harness.each(CALLS, function() g(v) end) / COUNT
  end
  harness.figure{
    name = name,
    unit = "ns",
    luapool = function() return timed(f, value) end,
    peer = has_json and function() return timed(peer, peer_value) end,
    goals = {{"peer", goal}},
  }
end

measure("encode one of 10,000 records",
  luapool.encode, json.encode, records, records, 4)
measure("decode one of 10,000 records",
  luapool.decode, json.decode, luapool.encode(records), json.encode(records),
  2.5)
