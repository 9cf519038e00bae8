-- SPDX-License-Identifier: MIT
-- The directory in which a function runs: what a package of the same paths
-- would hold, at the same places, as links to the files themselves, so that the
-- next sandbox sees an edit; or what a package does hold. It is temporary.

local disk = require "luapool.disk"
local companion = require "luapool.lambda.companion"
local failure = require "luapool.lambda.failure"
local package = require "luapool.lambda.package"

local M = {}

-- The handler, where there is but one Lua file at the top.
local function only_handler(names)
  local found
  for _, name in ipairs(names) do
    local module = name:match("^([^/]+)%.lua$")
    if module and found then return nil end
    found = module or found
  end
  return found and found .. ".handler"
end

-- The launcher finds what is beside its own file, so a link would not do.
local function put(scratch, entry)
  if entry.directory then
    return scratch:directory(entry.name)
  elseif entry.name == "bootstrap" then
    return scratch:copy(entry.name, entry.path)
  end
  return scratch:link(entry.name, failure.check(disk.realpath(entry.path)))
end

local function link(scratch, options)
  local names = {}
  for _, entry in ipairs((package.collect(options)):sorted()) do
    failure.check(put(scratch, entry))
    names[#names + 1] = entry.name
  end
  return names
end

local function unpack_zip(scratch, zip)
  failure.check(scratch:unpack(zip))
  return disk.names(scratch:path())
end

--- Makes it; closing it removes it.
-- @tparam table options paths, requirements: as the command line has them
-- @return {path=, program=: the bootstrap's path, handler=: or nil}
function M.new(options)
  local scratch = failure.check(companion.load("scratch").new())
  local zip = #options.paths == 1 and options.paths[1]:match("^.*%.zip$")
  local names = zip and unpack_zip(scratch, zip) or link(scratch, options)
  local root = {
    path = scratch:path(),
    program = scratch:path() .. "/bootstrap",
    handler = only_handler(names),
  }
  return setmetatable(root, { __close = function() scratch:close() end })
end

return M
