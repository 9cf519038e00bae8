-- SPDX-License-Identifier: MIT
-- Base64 (RFC 4648), for the few headers that hold it.

local M = {}

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  .. "0123456789+/"

local digit, value = {}, {}
for i = 0, 63 do
  digit[i] = DIGITS:sub(i + 1, i + 1)
  value[digit[i]] = i
end

local function encode_three(s)
  local a, b, c = s:byte(1, 3)
  local n = a << 16 | (b or 0) << 8 | (c or 0)
  return digit[n >> 18] .. digit[n >> 12 & 63]
    .. (b and digit[n >> 6 & 63] or "=") .. (c and digit[n & 63] or "=")
end

function M.encode(s)
  return (s:gsub("..?.?", encode_three))
end

local function decode_four(s)
  local n, bytes = 0, 3
  for i = 1, 4 do
    local c = s:sub(i, i)
    n = n << 6 | (value[c] or 0)
    if c == "=" then bytes = bytes - 1 end
  end
  return string.char(n >> 16, n >> 8 & 255, n & 255):sub(1, bytes)
end

--- @return string, or nil where it is not base64
function M.decode(s)
  if #s % 4 ~= 0 or s:find("[^%w+/]", 1) and not s:find("^[%w+/]*==?$") then
    return nil
  end
  return (s:gsub("....", decode_four))
end

return M
