-- SPDX-License-Identifier: MIT
-- The answer of InvokeWithResponseStream: Amazon's event stream, in which each
-- piece of the response is a message, and one more says how it ended. A message
-- is two lengths, their CRC, headers, the payload, and the CRC of all of it.

local json = require "luapool.json"
local base64 = require "luapool.lambda.local.base64"

local M = {}

local STRING = 7 -- the type of a header's value

-- CRC-32, as in zip and Ethernet, four bytes at a time: crcs[k][b] is what the
-- byte b becomes when k more bytes come after it.
local crcs = { [0] = {}, {}, {}, {} }
for byte = 0, 255 do
  local c = byte
  for _ = 1, 8 do c = c & 1 == 1 and 0xEDB88320 ~ c >> 1 or c >> 1 end
  crcs[0][byte] = c
end
for k = 1, 3 do
  for byte = 0, 255 do
    local c = crcs[k - 1][byte]
    crcs[k][byte] = crcs[0][c & 255] ~ c >> 8
  end
end

local function crc32(s)
  local zero, one, two, three = crcs[0], crcs[1], crcs[2], crcs[3]
  local unpack, c, i = string.unpack, 0xFFFFFFFF, 1
  while i + 3 <= #s do
    c = c ~ unpack("<I4", s, i)
    c = three[c & 255] ~ two[c >> 8 & 255] ~ one[c >> 16 & 255] ~ zero[c >> 24]
    i = i + 4
  end
  for j = i, #s do c = zero[(c ~ s:byte(j)) & 255] ~ c >> 8 end
  return c ~ 0xFFFFFFFF
end

local function header(name, value)
  return string.pack(">s1 B s2", name, STRING, value)
end

local function message(event, content_type, payload)
  local headers = header(":message-type", "event")
    .. header(":event-type", event) .. header(":content-type", content_type)
  local head = string.pack(">I4 I4", 16 + #headers + #payload, #headers)
  head = head .. string.pack(">I4", crc32(head))
  local all = head .. headers .. payload
  return all .. string.pack(">I4", crc32(all))
end

local function chunk(bytes)
  return message("PayloadChunk", "application/octet-stream", bytes)
end

local function complete(invocation, wants_log)
  local fields = {}
  if invocation.failed then
    local failure = json.decode(invocation.payload)
    fields.ErrorCode = type(failure) == "table" and failure.errorType
      or "Unhandled"
    fields.ErrorDetails = invocation.payload
  end
  if wants_log then fields.LogResult = base64.encode(invocation.tail) end
  return message("InvokeComplete", "application/json", json.encode(fields))
end

local function begin(request, invocation)
  if invocation.streaming then return end
  invocation.streaming = true
  request:begin(200, {
    "Content-Type: application/vnd.amazon.eventstream",
    "x-amzn-RequestId: " .. invocation.id,
    "X-Amz-Executed-Version: $LATEST",
  })
end

--- Gives an invocation what makes it answer in this way.
-- @param request of the caller
-- @tparam table fields of the invocation
-- @bool wants_log
function M.attach(request, fields, wants_log)
  function fields.write(invocation, bytes)
    begin(request, invocation)
    if bytes ~= "" then request:write(chunk(bytes)) end
  end
  function fields.done(invocation)
    begin(request, invocation)
    if not invocation.failed and invocation.payload ~= "" then
      request:write(chunk(invocation.payload))
    end
    request:write(complete(invocation, wants_log))
    request:finish()
  end
end

return M
