-- SPDX-License-Identifier: MIT
-- The files that lambdapool needs and the host does not hold: beside the host
-- in the build tree, under the same prefix where it is installed.
local disk = require "luapool.disk"
local failure = require "luapool.lambda.failure"

local M = {}

local bin = failure.check(disk.executable()):match("^(.*/)")

local MODULES = { bin .. "lib/luapool/", bin .. "../lib/lua/5.4/luapool/" }
local PARTS = { bin .. "lambda/", bin .. "../lib/luapool/" }

local function find(directories, name)
  for _, directory in ipairs(directories) do
    local path = disk.realpath(directory .. name)
    if path then
      return path
    end
  end
  failure.raise("%s is missing, in %s: build or install luapool anew", name,
    table.concat(directories, " and in "))
end

--- Loads a C module of lambdapool's own, as `require("luapool." .. name)`.
function M.load(name)
  local module = "luapool." .. name
  if not package.loaded[module] then
    local path = find(MODULES, name .. ".so")
    local open = failure.check(
      package.loadlib(path, "luaopen_luapool_" .. name))
    package.loaded[module] = open(module, path)
  end
  return package.loaded[module]
end

--- The path of a file: what goes into a zip, or argparse.lua.
function M.part(name)
  return find(PARTS, name)
end

return M
