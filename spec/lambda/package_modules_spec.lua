-- SPDX-License-Identifier: MIT
-- `lambdapool package --requirements`: the modules and libraries that go into
-- the zip beside the user's files.
local lambdapool = require "spec.support.lambda.package"
local lfs = require "lfs"

local directory = lambdapool.directory
local output, failure = lambdapool.output, lambdapool.failure
local shell = lambdapool.shell

describe("--requirements", function()
  lambdapool.guard(before_each, after_each)

  it("copies Lua modules and C modules", function()
    local dir = directory { ["app.lua"] = "",
      ["r.txt"] = "# modules\nargparse\n\n  lfs # files\r\ncjson\nboth\n" ..
        "both.part\n",
      ["modules/both/init.lua"] = "1", ["modules/both/part.lua"] = "2" }
    output(dir, "package app.lua -r r.txt -o f.zip",
      "LUA_PATH='modules/?.lua;modules/?/init.lua;;'")
    local entries = lambdapool.entries(dir .. "/f.zip")
    local share = "luapool-runtime/share/"
    assert.is_table(entries[share .. "argparse.lua"])
    assert.are.equal("1", entries[share .. "both/init.lua"].text)
    assert.are.equal("2", entries[share .. "both/part.lua"].text)
    assert.are.equal("644", entries["luapool-runtime/lib/lfs.so"].mode)
  end)

  it("notes what luapool has built in", function()
    local dir = directory { ["app.lua"] = "",
      ["r.txt"] = "luapool\nluapool.error\nstring" }
    local result = lambdapool.run(dir, "package app.lua -r r.txt -o f.zip")
    assert.are.equal(0, result.status)
    assert.are.equal(
      ("lambdapool: r.txt:%d: '%s' is part of luapool, no line is needed\n")
        :rep(3):format(1, "luapool", 2, "luapool.error", 3, "string"),
      result.stderr)
  end)

  it("says where it looked", function()
    local dir = directory { ["app.lua"] = "", ["r.txt"] = "lfs\n\nno.such\n" }
    local line = failure(dir, "package app.lua -r r.txt -o f.zip", 1,
      "LUA_PATH=/p/?.lua LUA_CPATH='/c/?.so;;'")
    assert.matches("^r%.txt:3: module 'no%.such' not found; looked for " ..
      "/p/no/such%.lua, /c/no/such%.so, ", line)
    assert.is_nil(lfs.attributes(dir .. "/f.zip"))
  end)

  it("wants one name a line", function()
    for _, text in ipairs { "lfs argparse", "lua-cjson >= 2.1", "../x", "a..b",
      "a/", ".", "x\1" } do
      local dir = directory { ["app.lua"] = "", ["r.txt"] = text }
      assert.are.equal("r.txt:1: '" .. text ..
        "' is no module name; write one name a line",
        failure(dir, "package app.lua -r r.txt -o f.zip"))
    end
    local dir = directory { ["app.lua"] = "" }
    assert.are.equal("none: No such file or directory",
      failure(dir, "package app.lua -r none -o f.zip"))
  end)

  it("are missed where a file requires what is not there", function()
    local dir = directory { ["src/app.lua"] = [[
        local lfs, util = require "lfs", require("lib.util")
        local string, core = require 'string', require "luapool".map
        -- require "commented"
        local name = require(name), pcall(require, "optional")
        required "no"; x.require "other"; require "cjson" require 'cjson.util'
        require "lfs"  require ("part.x")  require"lib"
      ]], ["src/lib/util.lua"] = "", ["src/lib/init.lua"] = "",
      ["r.txt"] = "lfs\n" }
    local result = lambdapool.run(dir, "package src/ -o f.zip")
    assert.are.equal(0, result.status)
    assert.are.equal(
      "lambdapool: src/app.lua requires 'lfs', which is not in the zip\n" ..
      "lambdapool: src/app.lua requires 'part.x', which is not in the zip\n",
      result.stderr)
    result = lambdapool.run(dir, "package src/ -r r.txt -o f.zip")
    assert.are.equal(
      "lambdapool: src/app.lua requires 'part.x', which is not in the zip\n",
      result.stderr)
  end)

  -- A C module, and a shared library that it needs.
  local function built()
    local dir = directory { ["app.lua"] = "", ["r.txt"] = "needy",
      ["needed.c"] = "int needed(void) { return 42; }\n",
      ["needy.c"] = "int needed(void); int luaopen_needy(void *L);\n" ..
        "int luaopen_needy(void *L) { return L ? needed() : 0; }\n" }
    shell(dir, "cc -shared -fPIC needed.c -o libneeded.so.7 " ..
      "-Wl,-soname,libneeded.so.7 && " ..
      "cc -shared -fPIC needy.c -o needy.so -L. -l:libneeded.so.7")
    return dir
  end

  it("brings the shared libraries of C modules", function()
    local dir = built()
    local before = "LD_LIBRARY_PATH=$PWD LUA_CPATH='./?.so;;'"
    output(dir, "package app.lua -r r.txt -o f.zip", before)
    local entries = lambdapool.entries(dir .. "/f.zip")
    assert.is_table(entries["luapool-runtime/lib/needy.so"])
    assert.is_table(entries["luapool-runtime/libneeded.so.7"])
    assert.are.equal("./needy.so needs the shared library libneeded.so.7, " ..
      "which is not there", failure(dir, "package app.lua -r r.txt -o f.zip", 1,
      "LUA_CPATH='./?.so;;'"))
  end)

  it("refuses a C module of another machine, or what is none", function()
    local dir = built()
    local file <close> = assert(io.open(dir .. "/needy.so", "r+b"))
    file:seek("set", 18)
    file:write("\xb7\0")
    file:flush()
    local function refused()
      return failure(dir, "package app.lua -r r.txt -o f.zip", 1,
        "LD_LIBRARY_PATH=$PWD LUA_CPATH='./?.so;;'")
    end
    assert.matches("^%./needy%.so is for %w+, and the host is for [%w_]+$",
      refused())
    file:seek("set", 0)
    file:write("\0\0\0\0")
    file:flush()
    assert.are.equal("./needy.so: no 64-bit little-endian ELF file", refused())
  end)
end)
