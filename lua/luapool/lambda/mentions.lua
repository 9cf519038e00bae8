-- SPDX-License-Identifier: MIT
-- What the Lua files of a zip require by a plain name, `require "name"`, and
-- the zip does not hold. A guess, for a note and not for an error: the line may
-- never run, and names that are computed are not seen.
local modules = require "luapool.lambda.modules"

local M = {}

-- Where the runtime looks, as names in the zip.
local PLACES = {
  "%s.lua", "%s/init.lua", "%s.so", "luapool-runtime/share/%s.lua",
  "luapool-runtime/share/%s/init.lua", "luapool-runtime/lib/%s.so",
}

local PATTERNS = {
  [[%f[%w_.:]require%s*%(?%s*"([%w_][%w_./-]*)"]],
  [[%f[%w_.:]require%s*%(?%s*'([%w_][%w_./-]*)']],
}

-- A submodule may be in the library of its module.
local function holds(entries, name)
  local root = name:match("^[^.]+")
  if entries["luapool-runtime/lib/" .. root .. ".so"]
    or entries[root .. ".so"] then
    return true
  end
  for _, place in ipairs(PLACES) do
    if entries[place:format((name:gsub("%.", "/")))] then
      return true
    end
  end
  return false
end

-- Calls f(name) for what the text requires; comments of whole lines are none.
local function each(text, f)
  for line in text:gmatch("[^\n]+") do
    if not line:find("^%s*%-%-") then
      for _, pattern in ipairs(PATTERNS) do
        for name in line:gmatch(pattern) do f(name) end
      end
    end
  end
end

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a") or "" -- the writing of the zip will say why
end

--- Notes each name that is not there, once.
-- @param contents of contents.lua
-- @func note takes a format and its values
function M.check(contents, note)
  local noted = {}
  for _, entry in ipairs(contents:sorted()) do
    if entry.path and entry.name:find("%.lua$") then
      each(read(entry.path), function(name)
        if not (noted[name] or modules.built_in(name)
          or holds(contents.entries, name)) then
          noted[name] = true
          note("%s requires '%s', which is not in the zip", entry.path, name)
        end
      end)
    end
  end
end

return M
