-- SPDX-License-Identifier: MIT
-- Lambda's Invoke operation for one function: requests become invocations, and
-- their outcomes answers, with the statuses and headers of Lambda's own API.

local json = require "luapool.json"
local base64 = require "luapool.lambda.local.base64"
local event_stream = require "luapool.lambda.local.event_stream"
local ids = require "luapool.lambda.local.ids"
local invocations = require "luapool.lambda.local.invocation"
local text = require "luapool.lambda.text"

local M = {}

local LIMIT = 6 * 1024 * 1024       -- bytes of an event
local EVENT_LIMIT = 1024 * 1024     -- where nobody waits for the answer
local CONTEXT_LIMIT = 3583          -- of a client context, as base64

local Endpoint = {}
Endpoint.__index = Endpoint

--- @tparam table config the function
-- @param fleet runs the invocations
-- @param httpd the module
-- @int port 0: any
-- @return endpoint, or nil and a message
function M.new(config, fleet, httpd, port)
  local server, message = httpd.listen(port, LIMIT + 1)
  if not server then return nil, message end
  return setmetatable({ config = config, fleet = fleet, server = server },
    Endpoint)
end

-- ----------------------------------------------------------------- refusals

local function fail(request, status, type, message, reason)
  request:respond(status, {
    "Content-Type: application/json",
    "x-amzn-RequestId: " .. ids.uuid(),
    "x-amzn-ErrorType: " .. type,
  }, json.encode { Type = "User", message = text.valid(message),
    Reason = reason })
end

-- The function of a path is a name, a partial ARN or a whole one, with or
-- without a qualifier.
local function is_ours(self, named, qualifier)
  local name = named:match("^arn:aws[%w-]*:lambda:[%w-]+:%d+:function:(.+)$")
    or named:match("^%d+:function:(.+)$") or named
  local bare, own = name:match("^([^:]+):(.+)$")
  name, qualifier = bare or name, own or qualifier
  return name == self.config.name
    and (not qualifier or qualifier == "$LATEST")
end

-- Refuses a request that Lambda would refuse; true where it did.
local function refused(self, request, named, kind, event)
  local limit = kind == "Event" and EVENT_LIMIT or LIMIT
  if not is_ours(self, named, request:argument "Qualifier") then
    fail(request, 404, "ResourceNotFoundException",
      "Function not found: " .. named)
  elseif request:size() > limit then
    fail(request, 413, "RequestTooLargeException",
      ("Request must be smaller than %d bytes for the InvokeFunction "
      .. "operation"):format(limit))
  elseif select(2, json.decode(event)) then
    fail(request, 400, "InvalidRequestContentException",
      "Could not parse request body into json: "
      .. select(2, json.decode(event)))
  else
    return false
  end
  return true
end

-- The client context as JSON in one line; nil where there is none, or, with a
-- message, where it is bad.
local function client_context(request)
  local sent = request:header "X-Amz-Client-Context"
  if not sent or sent == "" then return nil end
  if #sent > CONTEXT_LIMIT then return nil, "Client context is too large" end
  local context = base64.decode(sent)
  if not context or select(2, json.decode(context)) then
    return nil, "Could not parse client context"
  end
  return (context:gsub("[\r\n\t]", " ")) -- only blanks between tokens are those
end

-- ---------------------------------------------------------------- answers

local function answer(request, invocation, wants_log)
  local headers = {
    "Content-Type: application/json",
    "x-amzn-RequestId: " .. invocation.id,
    "X-Amzn-Trace-Id: " .. invocation.trace_id,
    "X-Amz-Executed-Version: $LATEST",
  }
  if invocation.failed then
    headers[#headers + 1] = "X-Amz-Function-Error: Unhandled"
  end
  if wants_log then
    headers[#headers + 1] = "X-Amz-Log-Result: "
      .. base64.encode(invocation.tail)
  end
  request:respond(200, headers, invocation.payload)
end

local function throttle(request)
  fail(request, 429, "TooManyRequestsException", "Rate Exceeded.",
    "ReservedFunctionConcurrentInvocationLimitExceeded")
end

-- What the caller sent beside the event, as fields of an invocation.
local function fields_of(request, event, context)
  return {
    event = event,
    client_context = context,
    trace_id = request:header "X-Amzn-Trace-Id",
    tenant_id = request:header "X-Amz-Tenant-Id",
    done = function() end,
  }
end

local KINDS = {}

function KINDS.DryRun(_, request)
  request:respond(204, { "x-amzn-RequestId: " .. ids.uuid() })
end

function KINDS.Event(self, request, fields)
  local invocation = invocations.new(fields)
  self.fleet:enqueue(invocation)
  request:respond(202, { "x-amzn-RequestId: " .. invocation.id })
end

function KINDS.RequestResponse(self, request, fields)
  local wants_log = request:header "X-Amz-Log-Type" == "Tail"
  function fields.done(invocation) answer(request, invocation, wants_log) end
  if not self.fleet:run(invocations.new(fields)) then throttle(request) end
end

local function stream(self, request, fields)
  local wants_log = request:header "X-Amz-Log-Type" == "Tail"
  event_stream.attach(request, fields, wants_log)
  if not self.fleet:run(invocations.new(fields)) then throttle(request) end
end

-- ----------------------------------------------------------------- requests

local function event_of(request)
  local event = request:body()
  return event ~= "" and event or "{}"
end

local function invoke(self, request, named, kind, run)
  local event = event_of(request)
  if refused(self, request, named, kind, event) then return end
  local context, problem = client_context(request)
  if problem then
    return fail(request, 400, "InvalidRequestContentException", problem)
  end
  run(self, request, fields_of(request, event, context))
end

local function invocations_of(self, request, named)
  local kind = request:header "X-Amz-Invocation-Type" or "RequestResponse"
  if not KINDS[kind] then
    return fail(request, 400, "InvalidParameterValueException",
      "Unknown invocation type: " .. kind)
  end
  invoke(self, request, named, kind, KINDS[kind])
end

local function streamed_invocations_of(self, request, named)
  invoke(self, request, named, "RequestResponse", stream)
end

local ROUTES = {
  ["^/2015%-03%-31/functions/(.+)/invocations$"] = invocations_of,
  ["^/2021%-11%-15/functions/(.+)/response%-streaming%-invocations$"] =
    streamed_invocations_of,
}

local function serve(self, request)
  for pattern, operation in pairs(ROUTES) do
    local named = request:path():match(pattern)
    if named and request:method() == "POST" then
      return operation(self, request, named)
    end
  end
  fail(request, 404, "UnknownOperationException",
    "only Invoke is here, not " .. request:path())
end

--- Does what can be done without waiting.
function Endpoint:step()
  for _, request in ipairs(self.server:step()) do
    if request:state() == "complete" then serve(self, request) end
  end
end

--- Enters its descriptor in the list. Returns seconds until it must be stepped.
function Endpoint:watch(fds)
  fds[#fds + 1] = self.server:fileno()
  return self.server:timeout() or math.huge
end

function Endpoint:port() return self.server:port() end

function Endpoint:close() self.server:close() end

Endpoint.__close = Endpoint.close

return M
