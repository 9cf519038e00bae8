-- SPDX-License-Identifier: MIT
-- The file of --requirements: Lua modules, one a line; `#` begins a comment.
-- Each is found as `require` would find it here, and exactly that is packaged:
-- what it requires in turn needs lines of its own.
local failure = require "luapool.lambda.failure"
local modules = require "luapool.lambda.modules"

local M = {}

local function is_name(text)
  return not text:find("[%s%c]") and not ("." .. text .. "."):find("[./][./]")
end

--- The modules of a file.
-- @treturn {table,...} {name=, place="FILE:LINE"}
function M.read(path)
  local file <close> = failure.check(io.open(path))
  local list, number = {}, 0
  for line in file:lines() do
    number = number + 1
    local name = line:gsub("#.*", ""):match("^%s*(.-)%s*$")
    local place = path .. ":" .. number
    if name ~= "" and not is_name(name) then
      failure.raise("%s: '%s' is no module name; write one name a line", place,
        name)
    elseif name ~= "" then
      list[#list + 1] = { name = name, place = place }
    end
  end
  return list
end

-- All templates of package.path and package.cpath, filled in, for a message.
local function places(...)
  local list = {}
  for _, message in ipairs { ... } do
    for place in message:gmatch("no file '([^']*)'") do
      list[#list + 1] = place
    end
  end
  return table.concat(list, ", ")
end

local function add(bundle, module, note)
  local name = module.name
  if modules.built_in(name) then
    return note("%s: '%s' is part of luapool, no line is needed", module.place,
      name)
  end
  local path, tried = package.searchpath(name, package.path)
  if path then
    return bundle:lua_module(name, path)
  end
  local library, tried_too = package.searchpath(name, package.cpath)
  if not library then
    failure.raise("%s: module '%s' not found; looked for %s", module.place,
      name, places(tried, tried_too))
  end
  bundle:c_module(name, library)
end

--- Adds every module of a file to a bundle.
-- @param bundle of bundle.lua
-- @string path
-- @func note takes a format and its values: for what is worth a line on stderr
function M.add(bundle, path, note)
  for _, module in ipairs(M.read(path)) do
    add(bundle, module, note)
  end
end

return M
