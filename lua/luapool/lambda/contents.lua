-- SPDX-License-Identifier: MIT
-- What a zip is to hold: names and where each comes from, every name once. An
-- entry is {name=, path=, size=, executable=}; a directory that holds nothing
-- is {name=, directory=true}.
local failure = require "luapool.lambda.failure"

local Contents = {}
Contents.__index = Contents

local M = {}

function M.new()
  return setmetatable({ entries = {} }, Contents)
end

-- Where an entry comes from, for a message.
local function source(entry)
  return entry.path or entry.name
end

local function collide(name, a, b)
  failure.raise("two inputs for '%s' in the zip: %s and %s", name, source(a),
    source(b))
end

--- Adds an entry. One that is there already is an error, unless it is the very
-- same file.
function Contents:add(entry)
  local other = self.entries[entry.name]
  if other and (not entry.real or other.real ~= entry.real) then
    collide(entry.name, other, entry)
  end
  self.entries[entry.name] = other or entry
end

-- A name may not be a file and, for another entry, a directory.
local function check_parents(entries, entry)
  local parent = entry.name:match("^(.+)/[^/]+$")
  while parent do
    local other = entries[parent]
    if other and not other.directory then
      collide(parent, other, entry)
    end
    parent = parent:match("^(.+)/[^/]+$")
  end
end

--- The entries in the order of the bytes of their names.
function Contents:sorted()
  local list = {}
  for _, entry in pairs(self.entries) do
    check_parents(self.entries, entry)
    list[#list + 1] = entry
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- Bytes when unpacked.
function Contents:size()
  local sum = 0
  for _, entry in pairs(self.entries) do
    sum = sum + (entry.size or 0)
  end
  return sum
end

return M
