-- SPDX-License-Identifier: MIT
-- The Runtime API and the Extensions API of one sandbox: what its bootstrap
-- asks, and what that does to the sandbox.

local json = require "luapool.json"
local base64 = require "luapool.lambda.local.base64"
local ids = require "luapool.lambda.local.ids"
local outcome = require "luapool.lambda.local.outcome"
local text = require "luapool.lambda.text"

local M = {}

local JSON = "Content-Type: application/json"

local function accept(request)
  request:respond(202, { JSON }, '{"status":"OK"}\n')
end

local function refuse(request, status, type, message)
  request:respond(status, { JSON },
    json.encode { errorType = type, errorMessage = text.valid(message) })
end

-- ----------------------------------------------------------- the runtime

local function not_now(request, message)
  refuse(request, 403, "InvalidStateTransition", message)
end

local function next_invocation(sandbox, request)
  local invocation = sandbox.invocation
  if invocation and invocation.begun then
    return not_now(request, "the invocation before has no response yet")
  elseif sandbox.held then
    not_now(sandbox.held, "the next invocation was asked for twice")
  end
  sandbox.held = request
  sandbox:deliver()
end

--- Answers the runtime's question for the next one.
function M.send(request, invocation, config)
  local headers = {
    JSON,
    "Lambda-Runtime-Aws-Request-Id: " .. invocation.id,
    "Lambda-Runtime-Deadline-Ms: " .. invocation.deadline_ms,
    "Lambda-Runtime-Invoked-Function-Arn: " .. config.arn,
    "Lambda-Runtime-Trace-Id: " .. invocation.trace_id,
  }
  if invocation.client_context then
    headers[#headers + 1] = "Lambda-Runtime-Client-Context: "
      .. invocation.client_context
  end
  if invocation.tenant_id then
    headers[#headers + 1] = "Lambda-Runtime-Aws-Tenant-Id: "
      .. invocation.tenant_id
  end
  request:respond(200, headers, invocation.event)
end

-- The running invocation, if its id is that. Refuses otherwise.
local function running(sandbox, request, id)
  local invocation = sandbox.invocation
  if invocation and invocation.begun and invocation.id == id then
    return invocation
  end
  refuse(request, 400, "InvalidRequestID", "Invalid request ID")
end

-- A response in pieces: those that have arrived. Its caller may want them now.
local function take_pieces(invocation, request)
  local piece = request:body()
  invocation.stream = request
  if invocation.write then
    invocation:write(piece)
  else
    invocation.pieces = invocation.pieces or {}
    table.insert(invocation.pieces, piece)
  end
end

-- What a response in pieces comes to at its end.
local function streamed(invocation, request)
  local failure = request:trailer("Lambda-Runtime-Function-Error-Body")
  if failure then return base64.decode(failure) or failure, true end
  if request:trailer("Lambda-Runtime-Function-Error-Type") then
    return "{}", true
  end
  return table.concat(invocation.pieces or {}), false
end

local function is_streamed(request)
  local mode = request:header("Lambda-Runtime-Function-Response-Mode")
  return mode ~= nil and mode:lower() == "streaming"
end

local function response(sandbox, request, id)
  local invocation = running(sandbox, request, id)
  if not invocation then return end
  local limit = sandbox.RESPONSE_LIMIT
  local payload, failed
  if is_streamed(request) then
    take_pieces(invocation, request)
    if request:state() == "open" then return end
    payload, failed = streamed(invocation, request)
  else
    payload = request:body()
  end
  if request:size() > limit and not invocation.write then
    refuse(request, 413, "RequestEntityTooLarge",
      "Exceeded maximum allowed payload size (" .. limit .. " bytes).")
    return sandbox:settle(outcome.too_large(limit), true, "error")
  end
  accept(request)
  sandbox:settle(payload, failed)
end

local function failure(sandbox, request, id)
  if not running(sandbox, request, id) then return end
  accept(request)
  sandbox:settle(request:body(), true)
end

local function init_error(sandbox, request)
  if sandbox.ready then
    return not_now(request, "init is over")
  end
  accept(request)
  sandbox:init_failed(request:body())
end

-- -------------------------------------------------------- its extensions

local function register(sandbox, request)
  local name = request:header("Lambda-Extension-Name")
  local asked = json.decode(request:body())
  if not name or type(asked) ~= "table" then
    return refuse(request, 400, "Extension.InvalidExtensionName",
      "an extension needs a name and a list of events")
  end
  local id, events = ids.uuid(), {}
  for _, event in ipairs(asked.events or {}) do events[event] = true end
  sandbox.extensions[id] = { name = name, events = events }
  request:respond(200, { JSON, "Lambda-Extension-Identifier: " .. id },
    json.encode {
      functionName = sandbox.config.name,
      functionVersion = "$LATEST",
      handler = sandbox.config.handler,
    })
end

local function known_extension(sandbox, request)
  local id = request:header("Lambda-Extension-Identifier")
  local extension = id and sandbox.extensions[id]
  if not extension then
    refuse(request, 403, "Extension.UnknownExtensionIdentifier",
      "Unknown extension")
  end
  return extension
end

local function next_event(sandbox, request)
  local extension = known_extension(sandbox, request)
  if not extension then return end
  extension.held = request
  sandbox:deliver()
end

local function extension_error(sandbox, request)
  if known_extension(sandbox, request) then accept(request) end
end

local function tell(sandbox, kind, event)
  for _, extension in pairs(sandbox.extensions) do
    if extension.held and extension.events[kind] then
      extension.held:respond(200, { JSON }, json.encode(event))
      extension.held = nil
    end
  end
end

--- Tells those who asked for it of an invocation.
function M.tell(sandbox, invocation)
  tell(sandbox, "INVOKE", {
    eventType = "INVOKE",
    deadlineMs = invocation.deadline_ms,
    requestId = invocation.id,
    invokedFunctionArn = sandbox.config.arn,
    tracing = { type = "X-Amzn-Trace-Id", value = invocation.trace_id },
  })
end

--- Tells those who asked for it of the end.
function M.tell_shutdown(sandbox, deadline_ms)
  tell(sandbox, "SHUTDOWN", {
    eventType = "SHUTDOWN",
    shutdownReason = "spindown",
    deadlineMs = deadline_ms,
  })
end

-- ------------------------------------------------------------- who serves

local RUNTIME = "^/2018%-06%-01/runtime/"
local EXTENSION = "^/2020%-01%-01/extension/"

local ROUTES = {
  { "GET", RUNTIME .. "invocation/next$", next_invocation },
  { "POST", RUNTIME .. "invocation/([^/]+)/response$", response },
  { "POST", RUNTIME .. "invocation/([^/]+)/error$", failure },
  { "POST", RUNTIME .. "init/error$", init_error },
  { "POST", EXTENSION .. "register$", register },
  { "GET", EXTENSION .. "event/next$", next_event },
  { "POST", EXTENSION .. "init/error$", extension_error },
  { "POST", EXTENSION .. "exit/error$", extension_error },
}

-- The client has gone, or has its answer. A response in pieces that is still
-- taken has lost its end.
local function forget(sandbox, request)
  local invocation = sandbox.invocation
  if invocation and invocation.stream == request then
    return sandbox:settle(outcome.truncated(), true, "error")
  end
  if sandbox.held == request then sandbox.held = nil end
  for _, extension in pairs(sandbox.extensions) do
    if extension.held == request then extension.held = nil end
  end
end

--- Serves a request of the bootstrap's that has news.
function M.serve(sandbox, request)
  local state = request:state()
  if state == "over" then return forget(sandbox, request) end
  if state == "open" and not is_streamed(request) then return end
  local method, path = request:method(), request:path()
  for _, route in ipairs(ROUTES) do
    local id = path:match(route[2])
    if id and method == route[1] then return route[3](sandbox, request, id) end
  end
  refuse(request, 404, "UnknownOperation", "no such operation: " .. path)
end

return M
