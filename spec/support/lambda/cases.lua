-- SPDX-License-Identifier: MIT
-- Functions of many handlers for the specs of pools: the event names the one
-- that it is for. Known to each are `pool`, of two workers, warm; pids(of),
-- its workers' process ids; beat(path), a task that marks a path for ever;
-- sleep(seconds).
local cjson = require "cjson"

local M = {}

--- The text of main.lua.
-- @param cases Lua that assigns to fields of `cases`: function(event, context)
function M.code(cases)
  return ([[
    local luapool = require "luapool"
    local gate = require "spec.support.gate"
    local pool = luapool.Pool(2)
    local cases = {}
    local function pids(of)
      local t = {}
      for i, worker in ipairs((of or pool):stats()) do t[i] = worker.pid end
      return t
    end
    local function beat(path)
      while true do gate.mark(path) gate.sleep(0.005) end
    end
    local function sleep(seconds) gate.sleep(seconds) return seconds end
    %s
    function cases.pids() return pids() end
    function cases.fine() return #pool:map(math.abs, {1, 2, 3, 4}, 1) end
    return { handler = function(event, context)
      return cases[event.case](event, context)
    end }
  ]]):format(cases)
end

--- An event for a case.
-- @param fields more of the event
function M.event(name, fields)
  fields = fields or {}
  fields.case = name
  return cjson.encode(fields)
end

--- Is the pool at work, whatever happened? An error where it is not.
function M.sound(f)
  local text = f:invoke(M.event "fine"):result()
  if text ~= "4" then error("the pool gave " .. text, 2) end
end

return M
