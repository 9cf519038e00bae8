-- SPDX-License-Identifier: MIT
-- One invocation: from the event to exactly one answer, whatever the handler
-- does. Called by the loop in luapool.lambda.runtime.

local environment = require "luapool.environment"
local json = require "luapool.json"
local limits = require "luapool.limits"
local context = require "luapool.lambda.context"
local events = require "luapool.lambda.event"
local fault = require "luapool.lambda.fault"
local log = require "luapool.lambda.log"
local text = require "luapool.lambda.text"

local M = {}

local LARGEST = 6291556 -- bytes of a response; one more ends the invocation

-- Seconds after which nobody may wait for a pool any longer, so that there is
-- time left to say so.
local function limit_of(event)
  local left = events.remaining(event.deadline_ms) / 1000
  if left == 0 or left == math.huge then
    return nil
  end
  local margin = math.max(0.1, math.min(1, left / 10))
  return math.max(0, left - margin)
end

local function check_content_type(body, content_type)
  if type(body) ~= "string" then
    fault.raise("Runtime.MarshalError", ("a result beside a content type "
      .. "must be a string, not a %s value"):format(type(body)))
  elseif not text.is_content_type(content_type) then
    fault.raise("Runtime.MarshalError",
      "the second result is no content type")
  end
end

local function encode(value)
  local body, message = json.encode(value)
  if not body then
    fault.raise("Runtime.MarshalError", message)
  end
  return body
end

-- The body of the response, and its content type.
local function marshal(event, body, content_type)
  if event.out then
    if body ~= nil then
      log.write("WARN", event.id, "a result beside a stream is not sent")
    end
    return
  elseif content_type == nil then
    body, content_type = encode(body), "application/json"
  else
    check_content_type(body, content_type)
  end
  if #body > LARGEST then
    fault.raise("Function.ResponseSizeTooLarge",
      ("the response has %d bytes, and at most %d are allowed"):format(#body,
        LARGEST))
  end
  return body, content_type
end

local function run(handler, event)
  local ctx = context.new(event)
  local input = event:decode()
  return marshal(event, handler(input, ctx))
end

-- What the pools may have, whether they are loaded yet or not: all of luapool
-- takes as long to load as the runtime does.
local function begin_tasks(event)
  environment.set("_X_AMZN_TRACE_ID", event.trace_id)
  limits.set_invocation(limit_of(event))
end

local function finish()
  return require("luapool.invocation").finish()
end

-- No task runs on once there is an answer. Callbacks are called meanwhile.
local function end_tasks(event)
  if not limits.pools then
    return
  end
  local ok, list = fault.try(finish)
  if not ok then
    log.write("ERROR", event.id, "tasks may be left: "
      .. fault.caught(list).message)
    return
  end
  for _, what in ipairs(list) do
    log.write("WARN", event.id, "cancelled, since its invocation is over: "
      .. what)
  end
end

local function answer(event, failed, body, content_type)
  local ok, message = false, nil
  if event.out then
    ok, message = require("luapool.lambda.stream").finish(event, failed)
  end
  if ok == false and failed then
    ok, message = event.api:error(event, failed)
  elseif ok == false then
    ok, message = event.api:response(event, body, content_type)
  end
  if not ok then
    log.write("ERROR", event.id, message)
  end
end

--- Runs the handler on an event, and answers.
-- @param api see luapool.lambda.api
-- @tparam function handler the user's
-- @param event see luapool.lambda.event
function M.serve(api, handler, event)
  event.api, context.current = api, event
  begin_tasks(event)
  local ok, body, content_type = fault.try(run, handler, event)
  context.current = nil
  local failed = not ok and fault.caught(body) or nil
  end_tasks(event)
  if failed then
    log.failed(event.id, failed)
  end
  log.flush()
  answer(event, failed, body, content_type)
end

return M
