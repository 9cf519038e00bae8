-- SPDX-License-Identifier: MIT
-- luapool's own part of a zip: the launcher as `bootstrap`, and in
-- luapool-runtime/ the host, the loader, the libraries that the host and the C
-- modules need, and the modules cjson and cjson.util.
local companion = require "luapool.lambda.companion"
local disk = require "luapool.disk"
local elf = require "luapool.lambda.elf"
local failure = require "luapool.lambda.failure"
local libraries = require "luapool.lambda.libraries"

local Bundle = {}
Bundle.__index = Bundle

local M = {}

local ROOT = "luapool-runtime/"

function Bundle:file(name, path, executable)
  local real = failure.check(disk.realpath(path))
  local _, size = failure.check(disk.stat(real))
  self.contents:add {
    name = name, path = path, size = size, executable = executable, real = real,
  }
end

function Bundle:libraries_of(path)
  for name, file in pairs(libraries.of(self.loader, path)) do
    self:file(ROOT .. name, file)
  end
end

--- Adds a Lua module.
-- @string name with dots
-- @string path where it is
function Bundle:lua_module(name, path)
  local file = name:gsub("%.", "/")
  if path:find("/init%.lua$") and not name:find("%f[^./]init$") then
    file = file .. "/init"
  end
  self:file(ROOT .. "share/" .. file .. ".lua", path)
end

--- Adds a C module, and the libraries that it needs.
function Bundle:c_module(name, path)
  local header = failure.check(elf.read(path))
  if header.machine ~= self.machine then
    failure.raise("%s is for %s, and the host is for %s", path, header.machine,
      self.machine)
  end
  self:file(ROOT .. "lib/" .. name:gsub("%.", "/") .. ".so", path)
  self:libraries_of(path)
end

local function add_host(bundle, host)
  bundle:file("bootstrap", companion.part("bootstrap"), true)
  bundle:file(ROOT .. "luapool", host, true)
  bundle:file(ROOT .. bundle.loader:match("[^/]+$"), bundle.loader, true)
  bundle:libraries_of(host)
end

local function add_cjson(bundle)
  bundle:c_module("cjson", failure.check(
    package.searchpath("cjson", package.cpath),
    "the Lua module cjson is missing (Debian: apt install lua-cjson)"))
  local util = package.searchpath("cjson.util", package.path)
  if util then
    bundle:lua_module("cjson.util", util)
  end
end

--- Adds the runtime.
-- @param contents of contents.lua
-- @return an object that adds modules
function M.new(contents)
  local host = companion.part("luapool")
  local header = failure.check(elf.read(host))
  local bundle = setmetatable({
    contents = contents, machine = header.machine, loader = header.interpreter,
  }, Bundle)
  add_host(bundle, host)
  add_cjson(bundle)
  return bundle
end

return M
