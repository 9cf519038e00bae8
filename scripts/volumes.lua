-- shows even chunks, and a plain loop where there is too little to share
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"

local THRESHOLD = 4  -- fewer trees than this are not worth a pool

if #arg == 0 then
  io.stderr:write("usage: luapool volumes.lua DIRECTORY...\n",
    "Prints the size in bytes of each directory tree, and their total.\n")
  os.exit(2)
end

local function size_of(directory)
  local quoted = "'" .. directory:gsub("'", "'\\''") .. "'"
  local du <close> = assert(io.popen("du -sb -- " .. quoted))
  local size = du:read("n")
  if not du:close() then error("cannot measure " .. directory, 0) end
  return size
end

local function serial(directories)
  local sizes = {}
  for i, directory in ipairs(directories) do sizes[i] = size_of(directory) end
  return sizes
end

local function parallel(directories)
  local pool <close> = luapool.Pool()
  return pool:map(size_of, directories, math.ceil(#directories / #pool))
end

local total = 0
for i, size in ipairs((#arg < THRESHOLD and serial or parallel)(arg)) do
  print(("%15d %s"):format(size, arg[i]))
  total = total + size
end
print(("%15d total"):format(total))
