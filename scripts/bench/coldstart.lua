-- shows how soon a Lambda function starts, and what memory it then has
-- SPDX-License-Identifier: MIT
--
-- From the start of the process to its first question for an event, beside
-- Python's runtime client (awslambdaric) with the same handler; and after that
-- event, the resident memory of all its processes. The limit is the host
-- without the launcher and the loader of its package. The files are in the page
-- cache. The client is in build/venv, from spec/support/lambda/hosts.sh.
local companion = require "luapool.lambda.companion"
local disk = require "luapool.disk"
local harness = require "harness"
local host = require "luapool.host"
local invocations = require "luapool.lambda.local.invocation"
local package = require "luapool.lambda.package"
local sandbox = require "luapool.lambda.local.sandbox"

local ROUNDS = 25

local httpd = companion.load "httpd"
local scratch <close> = assert(companion.load("scratch").new())
local root = scratch:path()
local python = disk.realpath(harness.interpreter:match("^(.*/)") or "./")
  .. "/venv/bin/python3"

local function write(name, text)
  local file <close> = assert(io.open(root .. "/" .. name, "w"))
  file:write(text)
end

write("app.lua", "return {handler = function(event) return event end}\n")
write("app.py", "def handler(event, context):\n    return event\n")
write("python", ("#!/bin/sh\nexec %s -m awslambdaric app.handler\n")
  :format(python))
os.execute("chmod +x " .. root .. "/python")

-- The package, as it is in Lambda.
local all = package.collect{paths = {root .. "/app.lua"}}
package.write(all, root .. "/app.zip")
os.remove(root .. "/app.lua")
assert(scratch:unpack(root .. "/app.zip"))

-- Resident kilobytes of the children of a process, and of theirs.
local function resident(pid)
  local kb = 0
  local below <close> = assert(io.open(
    ("/proc/%d/task/%d/children"):format(pid, pid)))
  for child in below:read("a"):gmatch("%d+") do
    for line in io.lines("/proc/" .. child .. "/status") do
      kb = kb + (line:match("^VmRSS:%s*(%d+)") or 0)
    end
    kb = kb + resident(child)
  end
  return kb
end

local memory = {}  -- of the starts so far, by program

-- Seconds of one start.
local function start(name, program)
  local box = sandbox.new({
    name = "bench", handler = "app.handler", root = root, program = program,
    memory = 1769, timeout = 10, arn = "arn", settings = {},
  }, httpd)
  function box.print() end
  local seconds
  local invocation = invocations.new{event = "{}", done = function()
    seconds = box.init_seconds
    table.insert(memory[name], resident(box.program:pid()))
  end}
  box:run(invocation)
  while not invocation.payload do
    local fds = {}
    host.poll(fds, math.max(0, box:watch(fds)))
    assert(box:step(), "the bootstrap has ended")
  end
  assert(not invocation.failed, invocation.payload)
  box:close()
  return seconds
end

local function starter(name, program)
  memory[name] = {}
  return function() return start(name, program) end
end

local function kept(name)
  return function() return table.remove(memory[name]) end
end

local client = disk.stat(python) and root .. "/python"
local peer = client and starter("python", client)

harness.figure{
  name = "cold start of a package",
  unit = "ms",
  rounds = ROUNDS,
  luapool = starter("package", root .. "/bootstrap"),
  limit = starter("host", disk.executable()),
  peer = peer,
  goals = {{"most", 0.020}, {"peer"}},
}
harness.figure{
  name = "memory after the first event",
  unit = "KB",
  rounds = ROUNDS,
  luapool = kept "package",
  limit = kept "host",
  peer = client and kept "python",
}
