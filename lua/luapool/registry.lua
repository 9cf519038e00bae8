-- SPDX-License-Identifier: MIT
-- Values that travel by a name of the user's: luapool.register. The codec keeps
-- the names; this file keeps their order, so that a pool can tell which of them
-- a worker made earlier still has to be sent.

local host = require "luapool.host"
local options = require "luapool.options"

local M = {}

local names = {}
local position = {} -- name -> index in names

--- Gives a table or function a name under which it travels by reference.
function M.register(name, value)
  options.argument(2, 1, "register", name, options.check.string)
  options.argument(2, 2, "register", value, function(v)
    local t = type(v)
    return t ~= "table" and t ~= "function"
      and "table or function expected, got " .. t or nil
  end)
  host.register(name, value)
  if position[name] then
    names[position[name]] = false -- the newest comes last
  end
  table.insert(names, name)
  position[name] = #names
end

--- How many registrations there were; with i, the name of that one (false where
-- it was registered anew since).
function M.since(i)
  if i then
    return names[i]
  end
  return #names
end

--- How an error names a function: by its module, else as file:line.
function M.name_of(f)
  local name = host.name(f)
  if name or type(f) ~= "function" then
    return name
  end
  local info = debug.getinfo(f, "S")
  return info.what ~= "C"
    and ("%s:%d"):format(info.short_src, info.linedefined) or nil
end

return M
