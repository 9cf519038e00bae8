-- SPDX-License-Identifier: MIT
-- The shared libraries that a program or C module needs, as the loader itself
-- finds them.
local failure = require "luapool.lambda.failure"

local M = {}

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- What the loader says of a file. A library that LD_PRELOAD names is nobody's
-- need, so there is none.
local function list(loader, path)
  local pipe = failure.check(io.popen(("LD_PRELOAD= %s --list %s 2>&1"):format(
    quote(loader), quote(path))))
  local text = pipe:read("a")
  return text, pipe:close()
end

local function missing(path, text)
  local name = text:match("loading shared libraries: ([^:]+): cannot open")
  if name then
    failure.raise("%s needs the shared library %s, which is not there", path,
      name)
  end
  failure.raise("%s: cannot tell which libraries it needs: %s", path,
    text:gsub("\n.*", ""))
end

--- The libraries of a file, without the loader.
-- @string loader path of the loader that the host has
-- @string path
-- @treturn table name -> path
function M.of(loader, path)
  local text, ok = list(loader, path)
  if not ok then
    missing(path, text)
  end
  local found, own = {}, loader:match("[^/]+$")
  for name, file in text:gmatch("%s*(%S+) => ([^\n]+) %(0x%x+%)\n") do
    if name:find("/", 1, true) then
      failure.raise("%s needs %s by its full path, which Lambda does not have",
        path, name)
    elseif name ~= own then
      found[name] = file
    end
  end
  return found
end

return M
