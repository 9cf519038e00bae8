-- SPDX-License-Identifier: MIT
-- A response that goes out while the handler runs. The request starts with the
-- first byte: until then an error is an ordinary one. Loaded by the first
-- context.stream.

local api = require "luapool.lambda.api"
local context = require "luapool.lambda.context"
local log = require "luapool.lambda.log"
local text = require "luapool.lambda.text"

local M = {}

-- Lambda's side is written in Go, whose server reads trailers of 4 KB in all
-- (net/http, transfer.go: readTrailer); base64 makes 4 bytes of 3.
local TRAILER_MOST = 2600

-- The default of AWS's own runtime for Node (src/stream/constants.ts).
local CONTENT_TYPE = "application/octet-stream"

local Stream = { __name = "luapool.stream" }
Stream.__index = Stream

local function content_type_of(opts)
  if type(opts) ~= "table" then
    error(("bad argument #1 to 'stream' (table expected, got %s)"):format(
      type(opts)), 3)
  end
  for name in pairs(opts) do
    if name ~= "content_type" then
      error(("unknown option '%s'"):format(tostring(name)), 3)
    end
  end
  local value = opts.content_type
  if value ~= nil and not text.is_content_type(value) then
    error("option 'content_type' cannot be a header", 3)
  end
  return value or CONTENT_TYPE
end

--- context.stream(opts)
-- @string id of the invocation whose context it is
function M.open(id, opts)
  local event = context.current
  if not event or event.id ~= id then
    error("the invocation is over", 2)
  elseif event.out then
    error("this response is a stream already", 2)
  end
  event.out = setmetatable({
    event = event,
    content_type = content_type_of(opts or {}),
  }, Stream)
  return event.out
end

local function start(self)
  local event = self.event
  log.flush()
  return event.api:start_post(api.path(event, "response"), {
    headers = api.headers(event, "Content-Type: " .. self.content_type,
      "Lambda-Runtime-Function-Response-Mode: streaming",
      "Trailer: Lambda-Runtime-Function-Error-Type, "
        .. "Lambda-Runtime-Function-Error-Body"),
    streaming = true,
  })
end

--- Sends bytes; waits while too many are on their way.
-- @return the stream; or nil, message where Lambda has ended the response
function Stream:write(bytes)
  if getmetatable(self) ~= Stream then
    error("bad argument #1 to 'write' (stream expected; was it called with a "
      .. "dot?)", 2)
  elseif type(bytes) ~= "string" and type(bytes) ~= "number" then
    error(("bad argument #1 to 'write' (string expected, got %s)"):format(
      type(bytes)), 2)
  elseif self.over then
    error("the stream is over: its handler has returned", 2)
  elseif bytes == "" then
    return self -- would be the chunk that ends it
  end
  self.transfer = self.transfer or start(self)
  local ok, message = self.transfer:write(tostring(bytes))
  if ok then
    return self
  end
  api.raise_interrupt()
  return nil, "could not write to the stream: " .. message
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  .. "0123456789+/"

local function digit(n)
  return DIGITS:sub(n + 1, n + 1)
end

local function base64(s)
  local padding = -#s % 3
  local digits = (s .. ("\0"):rep(padding)):gsub("...", function(group)
    local n = string.unpack(">I3", group)
    return digit(n >> 18) .. digit(n >> 12 & 63) .. digit(n >> 6 & 63)
      .. digit(n & 63)
  end)
  return digits:sub(1, #digits - padding) .. ("="):rep(padding)
end

local function trailers(failure)
  return {
    "Lambda-Runtime-Function-Error-Type: " .. failure.type,
    "Lambda-Runtime-Function-Error-Body: "
      .. base64(failure:body(TRAILER_MOST)),
  }
end

--- Ends the stream of an event, well or with a failure.
-- @return true; nil, message; or false where not a byte was written before the
--   failure, which is to be answered as any other
function M.finish(event, failure)
  local out = event.out
  out.over = true
  if failure and not out.transfer then
    return false
  end
  out.transfer = out.transfer or start(out)
  out.transfer:finish(failure and trailers(failure))
  event.api:wait(out.transfer)
  return api.accepted("response", event.api:posted(out.transfer))
end

return M
