-- SPDX-License-Identifier: MIT
-- Names that nothing else has, as Lambda writes them, and moments.

local host = require "luapool.host"

local M = {}

-- n hexadecimal digits, at most 16.
local function digits(n)
  return ("%016x"):format((host.entropy())):sub(1, n)
end

--- A random UUID, version 4.
function M.uuid()
  return ("%s-%s-4%s-a%s-%s"):format(digits(8), digits(4), digits(3),
    digits(3), digits(12))
end

--- An X-Ray trace header.
function M.trace()
  return ("Root=1-%08x-%s%s;Parent=%s;Sampled=0"):format(os.time(),
    digits(12), digits(12), digits(16))
end

--- The name of a log stream, of which each sandbox has one.
function M.log_stream()
  return os.date("!%Y/%m/%d") .. "/[$LATEST]" .. digits(16) .. digits(16)
end

--- Now, in UTC, with milliseconds.
function M.timestamp()
  local ms = host.wall_clock()
  return os.date("!%Y-%m-%dT%H:%M:%S", ms // 1000)
    .. (".%03dZ"):format(ms % 1000)
end

return M
