-- SPDX-License-Identifier: MIT
-- Text on its way into JSON and headers: UTF-8 made whole, cut where no
-- character breaks, nothing that would end a header. Called by the runtime's
-- other files.

local M = {}

local REPLACEMENT = "\u{FFFD}"

--- Valid UTF-8: each byte that is not part of it becomes U+FFFD.
function M.valid(s)
  local _, bad = utf8.len(s)
  if not bad then
    return s
  end
  local parts, from = {}, 1
  while bad do
    table.insert(parts, s:sub(from, bad - 1))
    table.insert(parts, REPLACEMENT)
    from = bad + 1
    _, bad = utf8.len(s, from)
  end
  table.insert(parts, s:sub(from))
  return table.concat(parts)
end

--- The first n bytes of valid UTF-8, or a few less: whole characters.
function M.cut(s, n)
  if #s <= n then
    return s
  end
  while n > 0 and s:byte(n + 1) & 0xC0 == 0x80 do
    n = n - 1
  end
  return s:sub(1, n)
end

local function percent(s)
  return (s:gsub(".", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- As the value of a header: visible ASCII, and blanks inside, those around
-- taken away. The rest is percent-encoded, and % itself.
-- @string s
-- @int most bytes; what is behind them is cut off
function M.header(s, most)
  s = s:match("^ *(.-) *$"):sub(1, most)
  s = s:gsub("[^\x20-\x24\x26-\x7E]+", percent)
  return (s:sub(1, most):gsub(" +$", ""))
end

--- As a header's value that goes back to where it came from: as it is, but for
-- control characters, which nobody may send.
function M.echo(s)
  return (s:gsub("[\0-\x08\x0A-\x1F\x7F]+", percent))
end

--- May it be a header's content type, as it is?
function M.is_content_type(s)
  return type(s) == "string" and s:find("^[\x21-\x7E][\x20-\x7E]*$") ~= nil
end

return M
