-- SPDX-License-Identifier: MIT
-- Values through the codec and back, and values to send.
local host = require "luapool.host"

local M = {}

--- The values as they are after encode and decode, code allowed.
function M.back(...)
  return host.decode(host.encode(...), { code = true })
end

--- Sends plain data until the encoder, which remembers that it met something
-- else, reads it from memory again.
function M.settle()
  for _ = 1, 130 do host.encode({}) end
end

--- The null light userdata.
function M.null()
  return host.decode("\4\xd5")
end

-- A key: mostly a small integer, so that lists form.
local function random_key()
  local i, kind = math.random(0, 12), math.random(12)
  if kind == 1 then return i + 0.5 end
  if kind == 2 then return -i end
  if kind <= 5 then return "k" .. i end
  return i
end

local beginnings = {
  function() return {} end,
  function() return { 1, 2, 3 } end,
  function() return { 1, nil, 3, nil } end,
  function() return { [1] = 1, [2] = 2, [3] = 3, x = 1 } end,
  function() return { a = 1, b = 2, c = 3, d = 4 } end,
}

--- A table of plain values, made by a random row of assignments.
function M.random_table()
  local t = beginnings[math.random(#beginnings)]()
  for _ = 1, math.random(0, 24) do
    t[random_key()] = math.random(3) > 1 and math.random(1000) or nil
    if math.random(6) == 1 then table.remove(t) end
    if math.random(6) == 1 then t[#t + 1] = true end
  end
  return t
end

return M
