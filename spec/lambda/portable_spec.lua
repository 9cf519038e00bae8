-- SPDX-License-Identifier: MIT
-- A packaged function runs where the system's glibc is older than the one that
-- everything was built with: in Lambda's sandbox over Debian 11 (glibc 2.31),
-- with the Runtime API stand-in outside. And objdump agrees that it can.
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local lambdapool = require "spec.support.lambda.package"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local script = require "spec.support.script"

-- One sandbox does not start in another, and a sanitizer wants its own loader.
if os.getenv "LUAPOOL_SANDBOX" or script.interpreter():find "/asan/" then
  return
end

local quote = script.quote
local here = lfs.currentdir()
local root = here .. "/build/bullseye"
local box = here .. "/spec/support/lambda/old_box.sh"
local shell = lambdapool.shell

local FILES = {
  ["src/app.lua"] = [[
    local cjson = require "cjson"
    local lfs = require "lfs"
    local luapool = require "luapool"
    local numbers = require "lib.numbers"

    local function output(command)
      local pipe <close> = io.popen(command)
      return pipe:read("a")
    end

    local function read(name)
      local file <close> = io.open(name)
      return file:read("a")
    end

    local pool = luapool.Pool(2)
    local M = {}

    function M.main(event)
      local _, how, status = os.execute("echo hi; exit 3")
      return {
        squares = pool:map(numbers.square, event.items),
        workers = pool:apply(read, {"/proc/self/maps"}),
        list = cjson.encode {1, 2},
        place = lfs.currentdir(),
        how = how, status = status,
        system = output "/lib/*/libc.so.6",
        shell = output "while read x; do echo $x; done </proc/self/maps",
        maps = read "/proc/self/maps",
        name = read "/proc/self/comm",
      }
    end

    return M
  ]],
  ["src/lib/numbers.lua"] = [[
    return { square = function(x) return x * x end }
  ]],
  ["modules.txt"] = "lfs\n",
}

-- A program for the stand-in: the zip's bootstrap, in the box.
local function in_box(dir)
  local path = dir .. "/box.sh"
  lambdapool.write(path, ("#!/bin/sh\nexec %s %s %s /var/task/bootstrap\n")
    :format(quote(box), quote(root), quote(dir .. "/task")))
  shell(dir, "chmod 755 box.sh")
  return path
end

-- A directory where the zip is unpacked as task/.
local function unpacked()
  local dir = lambdapool.directory(FILES)
  lambdapool.output(dir, "package src/ -r modules.txt -o f.zip")
  lambdapool.unpack(dir)
  return dir
end

-- The function's first process in the box, as seen from outside.
local function oldest_bootstrap(f)
  for _, pid in ipairs(f:processes()) do
    if gate.read(("/proc/%d/comm"):format(pid)) == "bootstrap\n" then
      return pid
    end
  end
end

-- Why there is no such box; nil where there is one.
local trouble
do
  local pipe = io.popen(("timeout 100 %s %s 2>&1 && %s %s / /bin/sh -c : 2>&1")
    :format(quote(here .. "/spec/support/lambda/bullseye.sh"), quote(root),
      quote(box), quote(root)))
  local text = pipe:read("a")
  if not pipe:close() then
    trouble = "no Debian 11 to run in: " .. text:gsub("%s*\n%s*", "; ")
  end
end

describe("a packaged function on an older glibc", function()
  lambda.guard(before_each, after_each)
  leaks.finish(lambdapool.clean)

  it("runs, with pools, modules and programs of the system", function()
    if trouble then return pending(trouble) end
    local f = lambda.start {
      program = in_box(unpacked()), handler = "app.main",
    }
    local answer = f:invoke '{"items": [1, 2, 3]}'
    assert.are.equal("response", answer.kind)
    local result = answer:json()
    assert.are.same({ 1, 4, 9 }, result.squares)
    assert.are.equal("[1,2]", result.list)
    assert.are.equal("/var/task", result.place)
    assert.are.same({ "exit", 3 }, { result.how, result.status })
    assert.matches("^GNU C Library %(Debian GLIBC 2%.31", result.system)
    -- Ours in the host and its workers, the system's in what they start.
    for _, maps in ipairs { result.maps, result.workers } do
      assert.matches("/var/task/luapool%-runtime/libc%.so%.6\n", maps)
      assert.is_nil(maps:find(" /lib/", 1, true))
    end
    assert.matches(" /lib/.*libc", result.shell)
    assert.is_nil(result.shell:find("luapool", 1, true))
    assert.are.equal("bootstrap\n", result.name)
    faults.kill(oldest_bootstrap(f), "TERM")
    local ended = f:wait()
    assert.are.equal(0, ended.status)
    assert.matches("^hi\n", ended.stdout)
  end)

  it("could not without its own loader", function()
    if trouble then return pending(trouble) end
    local dir = unpacked()
    local result = lambdapool.try(dir, ("%s %s task %s"):format(
      quote(box), quote(root), "/var/task/luapool-runtime/luapool -v"))
    assert.are_not.equal(0, result.status)
    assert.matches("GLIBC_2%.%d+' not found", result.stderr)
  end)

  it("finds every library inside the zip", function()
    if trouble then return pending(trouble) end
    local dir = unpacked()
    local list = shell(dir, ("%s %s task /bin/sh -c %s"):format(quote(box),
      quote(root), quote [[
        cd luapool-runtime
        for file in luapool lib/*.so; do
          ./ld-* --library-path /var/task/luapool-runtime --list ./$file
        done]]))
    for line in list:gmatch("[^\n]+") do
      assert.is_truthy(line:find("vdso", 1, true)
        or line:find("=> /var/task/luapool-runtime/", 1, true)
        or line:find("^%s*%S*/ld%-linux"), line)
    end
  end)
end)

describe("the ELF files of a zip", function()
  lambdapool.guard(before_each, after_each)

  it("find every versioned symbol of glibc in the zip's own", function()
    local dir, defined, needed = unpacked(), {}, {}
    local text = shell(dir .. "/task/luapool-runtime",
      "objdump -T luapool *.so.* lib/*.so")
    for line in text:gmatch("[^\n]+") do
      local version, name = line:match("%s%x+%s+%(?(GLIBC_[%w.]+)%)?%s+(%S+)$")
      if version and line:find("*UND*", 1, true) then
        needed[name .. "@" .. version] = true
      elseif version then
        defined[name .. "@" .. version] = true
      end
    end
    assert.is_true(needed["dlopen@GLIBC_2.34"] or needed["dlopen@GLIBC_2.2.5"]
      or needed["malloc@GLIBC_2.2.5"] or needed["malloc@GLIBC_2.17"])
    for symbol in pairs(needed) do
      assert.is_true(defined[symbol], symbol)
    end
  end)

  it("bootstrap needs no loader", function()
    local headers = shell(unpacked(), "objdump -p task/bootstrap")
    assert.is_truthy(headers:find("LOAD", 1, true))
    assert.is_nil(headers:find("INTERP", 1, true))
    assert.is_nil(headers:find("NEEDED", 1, true))
  end)
end)
