-- SPDX-License-Identifier: MIT
-- The launcher of a zip, host/bootstrap.c: what the host gets of its arguments
-- and environment, what programs that it starts get, and what is said where
-- something is missing.
local lambdapool = require "spec.support.lambda.package"

local shell = lambdapool.shell

describe("bootstrap", function()
  lambdapool.guard(before_each, after_each)

  local dir

  -- The host tells what it sees: without Lambda's variables it is plain Lua.
  local TELL = [[
    for _, name in ipairs { "LUAPOOL_RUNTIME", "LD_LIBRARY_PATH", "A" } do
      print(name, os.getenv(name))
    end
    print(table.unpack(arg, 0))
    local lines = {}
    for line in io.lines("/proc/self/maps") do
      local file = line:match("%S*/libc%.so%.6$")
      if file and not lines[file] then
        lines[file] = true
        print(file)
      end
    end
    io.stdout:flush()
    os.execute("echo ${LD_LIBRARY_PATH-none}; exit 3")
    os.exit(7)
  ]]

  before_each(function()
    dir = lambdapool.directory { ["app.lua"] = "", ["tell.lua"] = TELL }
    lambdapool.output(dir, "package app.lua -o f.zip")
    lambdapool.unpack(dir)
  end)

  -- What it says when it is started like that.
  local function told(line)
    local result = lambdapool.try(dir, line)
    assert.are.equal("", result.stderr)
    assert.are.equal(7, result.status)
    return (result.stdout:gsub(dir, "DIR", nil))
  end

  local function text(...)
    return table.concat({ ... }, "\n") .. "\n"
  end

  it("hands on arguments, environment and status", function()
    assert.are.equal(text("LUAPOOL_RUNTIME\tDIR/task/luapool-runtime",
      "LD_LIBRARY_PATH\t/a:/b", "A\t1 2", "tell.lua\tx y\t",
      "DIR/task/luapool-runtime/libc.so.6", "/a:/b"),
      told("A='1 2' LD_LIBRARY_PATH=/a:/b task/bootstrap tell.lua 'x y' ''"))
  end)

  it("is found wherever it is started from", function()
    local expected = text("LUAPOOL_RUNTIME\tDIR/task/luapool-runtime",
      "LD_LIBRARY_PATH\tnil", "A\tnil", "%s",
      "DIR/task/luapool-runtime/libc.so.6", "none")
    shell(dir, "ln -s task/bootstrap link")
    for _, line in ipairs { "./link", dir .. "/task/bootstrap",
      "LUAPOOL_RUNTIME=/none PATH=$PWD/task:$PATH; bootstrap" } do
      assert.are.equal(expected:format("tell.lua"),
        told("unset LD_LIBRARY_PATH A; " .. line .. " tell.lua"))
    end
    assert.are.equal(expected:format("../tell.lua"),
      told("unset LD_LIBRARY_PATH; cd task; ./bootstrap ../tell.lua"))
  end)

  it("does not make an empty search path the working directory", function()
    shell(dir, "mkdir empty; cp task/bootstrap empty/libm.so.6")
    local result = lambdapool.try(dir .. "/empty",
      "LD_LIBRARY_PATH= ../task/bootstrap ../tell.lua")
    assert.are.equal(7, result.status)
  end)

  it("says what is missing", function()
    local function refused(line)
      local result = lambdapool.try(dir, line .. "; task/bootstrap -v")
      assert.are.equal("", result.stdout)
      assert.are.equal(127, result.status)
      return (result.stderr:gsub(dir, "DIR", nil))
    end
    local start = "^bootstrap: cannot start DIR/task/luapool%-runtime/ld%-%S+: "
    assert.matches("/luapool: cannot open shared object file",
      refused("mv task/luapool-runtime/luapool x"))
    assert.matches(start .. "it may not be executed\n$",
      refused("chmod 644 task/luapool-runtime/ld-*"))
    assert.matches(start .. "it is not there\n$",
      refused("rm -r task/luapool-runtime"))
  end)

  it("says what is too much", function()
    local result = lambdapool.try(dir, "task/bootstrap $(seq 70000)")
    assert.are.equal("bootstrap: too many arguments and variables\n",
      result.stderr)
    assert.are.equal(127, result.status)
  end)
end)
