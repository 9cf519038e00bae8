-- SPDX-License-Identifier: MIT
-- Environment variables that change while there are workers. Those made later
-- inherit them; the others are sent what has changed before their next chunk.

local host = require "luapool.host"

local M = {
  version = 0, -- raised by every change
}

local changed = {} -- name -> version of its last change

--- Sets a variable of this process, and of all its workers to come or at hand.
-- @string name
-- @tparam string|nil value nil removes it
function M.set(name, value)
  host.setenv(name, value)
  M.version = M.version + 1
  changed[name] = M.version
end

--- What has changed since that version.
-- @treturn {string,...} each "name=value", or "name" where it was removed
function M.since(version)
  local list = {}
  for name, at in pairs(changed) do
    if at > version then
      local value = os.getenv(name)
      table.insert(list, value and name .. "=" .. value or name)
    end
  end
  return list
end

return M
