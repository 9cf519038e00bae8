-- SPDX-License-Identifier: MIT
-- One event as the Runtime API hands it out: what its headers say, where an
-- empty one counts as none, and its body.

local host = require "luapool.host"
local json = require "luapool.json"
local fault = require "luapool.lambda.fault"

local M = {}

local Event = {}
Event.__index = Event

-- A whole number of milliseconds since the epoch; nil where it is none, or one
-- that no clock will ever show.
local function milliseconds(s)
  return s and s:find("^%-?%d+$") and math.tointeger(tonumber(s)) or nil
end

--- @param answer http's, to the request for the next event
-- @return an event; its id is nil where it has none
function M.new(answer)
  local function header(name)
    local value = (answer.headers[name] or ""):match("^%s*(.-)%s*$")
    return value ~= "" and value or nil
  end
  return setmetatable({
    id = header "lambda-runtime-aws-request-id",
    invocation_id = header "lambda-runtime-invocation-id",
    deadline_ms = milliseconds(header "lambda-runtime-deadline-ms"),
    trace_id = header "lambda-runtime-trace-id",
    arn = header "lambda-runtime-invoked-function-arn",
    tenant_id = header "lambda-runtime-aws-tenant-id",
    client_context = header "lambda-runtime-client-context",
    identity = header "lambda-runtime-cognito-identity",
    body = answer.body,
  }, Event)
end

--- Milliseconds until a deadline, never below 0; math.huge without one.
function M.remaining(deadline_ms)
  if not deadline_ms then
    return math.huge
  end
  local now = host.wall_clock()
  return deadline_ms > now and deadline_ms - now or 0
end

-- A value of JSON; null is nil.
local function decode(s, type, what)
  local value, message = json.decode(s)
  if message then
    fault.raise(type, ("the %s is not JSON: %s"):format(what, message))
  elseif value == json.null then
    return nil
  end
  return value
end

--- The event itself; raises a failure.
function Event:decode()
  if self.body == "" then
    return nil
  end
  return decode(self.body, "Runtime.UnmarshalError", "event")
end

--- A header that holds JSON; raises a failure.
-- @string name "client_context" or "identity"
function Event:decode_header(name)
  if not self[name] then
    return nil
  end
  return decode(self[name], "Runtime.LambdaContextUnmarshalError",
    name:gsub("_", " "))
end

return M
