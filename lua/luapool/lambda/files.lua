-- SPDX-License-Identifier: MIT
-- The user's files, from the PATHS of a command line. A file goes to the root
-- of the zip under its own name; a directory under its own name too, unless it
-- is given as `.`, `..` or with `/` or `/.` at its end: then what it holds goes
-- to the root. A link inside a directory becomes a copy of what it points at,
-- which must be in that directory.
local disk = require "luapool.disk"
local failure = require "luapool.lambda.failure"
local private = require "luapool.lambda.private"

local M = {}

local RESERVED = { bootstrap = true, ["luapool-runtime"] = true }

-- One of PATHS at work: `given` as the user wrote it, `root` without links,
-- `above` the directories that the walk is in, `contents` where entries go,
-- `except` a file to leave out, or nil.

local function check_name(name, path)
  local shown = ("%q"):format(path):gsub("\\\n", "\\n")
  if not utf8.len(name) then
    failure.raise("the name of %s is not UTF-8", shown)
  elseif name:find("%c") then
    failure.raise("the name of %s has a control character", shown)
  elseif RESERVED[name:match("^[^/]+")] then
    failure.raise("%s would be '%s' in the zip, a name that luapool needs",
      path, name)
  end
end

-- Raises an error where a link leads to something that must not be packaged.
local function check_target(walk, path, target)
  local inside = target:sub(#walk.root + 1)
  if walk.root ~= "/" and target:sub(1, #walk.root) ~= walk.root
    or inside ~= "" and walk.root ~= "/" and inside:sub(1, 1) ~= "/" then
    failure.raise("the link %s points out of %s, at %s", path, walk.given,
      target)
  end
  for part in inside:gmatch("[^/]+") do
    if private(part) then
      failure.raise("the link %s points at %s, which is never packaged", path,
        target)
    end
  end
end

-- Type, size, executable, and the path without links.
local function look(walk, path)
  local kind, size, executable = failure.check(disk.stat(path))
  local real = disk.realpath(path)
  if not real then
    failure.raise("the link %s points at nothing", path)
  elseif kind == "link" then
    check_target(walk, path, real)
    kind, size, executable = failure.check(disk.stat(real))
  end
  return kind, size, executable, real
end

local add

-- Adds what a directory holds. `name` is its own in the zip, nil for the root.
local function add_contents(walk, path, real, name)
  if walk.above[real] then
    failure.raise("the link %s points at a directory that it is in", path)
  end
  walk.above[real] = true
  local names, count = failure.check(disk.names(path)), 0
  table.sort(names)
  for _, base in ipairs(names) do
    local inner = name and name .. "/" .. base or base
    count = count + add(walk, path:gsub("/*$", "/") .. base, inner)
  end
  walk.above[real] = nil
  if count == 0 and name then
    walk.contents:add {
      name = name, path = path, directory = true, real = real,
    }
    return 1
  end
  return count
end

-- Adds a file or directory; returns how many entries that made.
function add(walk, path, name)
  if private(name:match("[^/]+$")) then
    return 0
  end
  local kind, size, executable, real = look(walk, path)
  if real == walk.except then
    return 0
  end
  check_name(name, path)
  if kind == "directory" then
    return add_contents(walk, path, real, name)
  elseif kind ~= "file" then
    failure.raise("%s is neither a file nor a directory", path)
  end
  walk.contents:add {
    name = name, path = path, size = size, executable = executable, real = real,
  }
  return 1
end

-- The name that a given path has in the zip, nil where it is a directory whose
-- contents go to the root.
local function name_of(path)
  local base = path:match("[^/]*$")
  return base ~= "" and base ~= "." and base ~= ".." and base or nil
end

local function add_given(path, contents, except)
  local root = failure.check(disk.realpath(path))
  local name = name_of(path)
  for _, base in ipairs { name or "", root:match("[^/]*$") } do
    if private(base) then
      failure.raise("%s is never packaged: %s", path, private(base))
    end
  end
  local walk = {
    given = path, root = root, above = {}, contents = contents, except = except,
  }
  if name then
    return add(walk, path, name)
  end
  return add_contents(walk, path, root)
end

--- Adds what PATHS hold.
-- @tparam {string,...} paths
-- @param contents of contents.lua
-- @string[opt] except a file to leave out, without links: the zip itself
function M.add(paths, contents, except)
  local count = 0
  for _, path in ipairs(paths) do
    count = count + add_given(path, contents, except)
  end
  if count == 0 then
    failure.raise("there is no file in %s", table.concat(paths, ", "))
  end
end

return M
