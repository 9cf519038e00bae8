-- SPDX-License-Identifier: MIT
-- The second argument of a handler. All of it but `stream` may go along into a
-- task: its functions hold plain values and modules only.

local event = require "luapool.lambda.event"
local log = require "luapool.lambda.log"

local M = {}

local function environment(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local fixed -- what is the same in every invocation

local function read_environment()
  return {
    function_name = environment "AWS_LAMBDA_FUNCTION_NAME",
    function_version = environment "AWS_LAMBDA_FUNCTION_VERSION",
    memory_limit_in_mb = math.tointeger(tonumber(
      environment "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
    log_group_name = environment "AWS_LAMBDA_LOG_GROUP_NAME",
    log_stream_name = environment "AWS_LAMBDA_LOG_STREAM_NAME",
  }
end

-- Methods that may be called with a dot: without the context before the rest.
local function rest(context, first, ...)
  if first == context then
    return ...
  end
  return first, ...
end

--- context.log(level, text)
function M.log(id, level, ...)
  if not log.is_level(level) then
    error(("bad argument #1 to 'log' (no level: %s)"):format(tostring(level)),
      3)
  end
  log.write(level, id, tostring((...)))
end

local function add_functions(context, id, deadline)
  function context.get_remaining_time_in_millis()
    return event.remaining(deadline)
  end
  function context.log(...)
    M.log(id, rest(context, ...))
  end
  function context.stream(...)
    return require("luapool.lambda.stream").open(id, rest(context, ...))
  end
  return context
end

--- @param e see luapool.lambda.event
-- @return the context; raises a failure where a header of the event is no JSON
function M.new(e)
  fixed = fixed or read_environment()
  local context = {
    aws_request_id = e.id,
    invoked_function_arn = e.arn,
    deadline_ms = e.deadline_ms,
    tenant_id = e.tenant_id,
    client_context = e:decode_header "client_context",
    identity = e:decode_header "identity",
  }
  for name, value in pairs(fixed) do
    context[name] = value
  end
  return add_functions(context, e.id, e.deadline_ms)
end

return M
