-- SPDX-License-Identifier: MIT
-- What Lambda answers where the function itself could not: texts and error
-- bodies in its own words.

local host = require "luapool.host"
local json = require "luapool.json"
local ids = require "luapool.lambda.local.ids"

local M = {}

local function body(type, message)
  return json.encode { errorType = type, errorMessage = message }
end

local function request(invocation, text)
  return ("RequestId: %s Error: %s"):format(invocation.id, text)
end

local SIGNALS = {
  [6] = "aborted", [7] = "bus error", [8] = "floating point exception",
  [9] = "killed", [11] = "segmentation fault", [15] = "terminated",
}

--- The process has left in the middle of it.
function M.exited(invocation, code, signal)
  local text = "Runtime exited without providing a reason"
  if signal then
    text = "Runtime exited with error: signal: "
      .. (SIGNALS[signal] or host.signal_name(signal))
  elseif code ~= 0 then
    text = "Runtime exited with error: exit status " .. code
  end
  return body("Runtime.ExitError", request(invocation, text))
end

local function seconds(timeout)
  return ("Task timed out after %.2f seconds"):format(timeout)
end

function M.timed_out(invocation, timeout)
  return body("Sandbox.Timedout", request(invocation, seconds(timeout)))
end

--- The same for the log.
function M.timeout_line(invocation, timeout)
  return ("%s %s %s\n\n"):format(ids.timestamp(), invocation.id,
    seconds(timeout))
end

--- The response has more bytes than Lambda carries.
function M.too_large(limit)
  return body("Function.ResponseSizeTooLarge", ("Response payload size "
    .. "exceeded maximum allowed payload size (%d bytes)."):format(limit))
end

--- A streamed response that stopped before its end.
function M.truncated()
  return body("Runtime.TruncatedResponse", "the response was cut off")
end

return M
