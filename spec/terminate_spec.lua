-- SPDX-License-Identifier: MIT
-- host.exit_on_term: a process that leaves at SIGTERM, in time and in order,
-- whatever it is doing.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"

local LIMIT = 0.3 -- seconds between the signal and the end
local TRIES = 5 -- on a machine that has other things to do

-- Output is in a buffer when `at` says that the program is where it should be.
local prelude = [[
local host = require "luapool.host"
host.exit_on_term(7, 0.05)
local mark = os.getenv "LUAPOOL_SPEC_MARK"
local function at(what)
  gate.mark(mark .. ".at", what or leaks.pid() .. "\n")
end
io.stdout:setvbuf "full"
io.write "kept"
local function stubborn()
  harm.ignore(15)
  gate.mark(mark .. ".on")
  os.execute "sleep 60 & sleep 60"
end
local pool = luapool.Pool(2)
]]

-- Runs it and sends it SIGTERM where it has said so; how it ended, and when.
local function run(text, times)
  local program = faults.start(prelude .. text)
  local path = program:path "at"
  gate.eventually(function() return gate.read(path):find "\n" end)
  local pid = math.tointeger(gate.read(path):match "%d+")
  gate.sleep(0.02)
  local begun = gate.now()
  for _ = 1, times or 1 do faults.kill(pid, "TERM") end
  gate.eventually(function() return not leaks.alive(pid) end)
  local seconds = gate.now() - begun
  local result = program:wait()
  result.seconds = seconds
  return result
end

local function leaves_in_time(text, times)
  local result
  for _ = 1, TRIES do
    result = run(text, times)
    assert.are.equal("", result.stderr)
    assert.are.equal("kept", result.stdout)
    assert.are.equal(7, result.status)
    if result.seconds < LIMIT then return end
  end
  error(("%.3f s until its end"):format(result.seconds))
end

describe("SIGTERM", function()
  faults.guard(before_each, after_each)

  local states = {
    ["waiting for a map"] = "at() pool:map(gate.sleep, { 60, 60, 60 })",
    ["waiting for tasks that ignore it"] = [[
      pool:map_async(stubborn, { 1, 2 })
      gate.wait(mark .. ".on", 2)
      at()
      pool:close()
      pool:join()
    ]],
    ["waiting for one task"] = "at() pool:apply(gate.sleep, { 60 })",
    ["waiting for tasks of several pools"] = [[
      local other = luapool.Pool(1)
      local futures = { pool:apply_async(gate.sleep, { 60 }),
        other:apply_async(gate.sleep, { 60 }) }
      at()
      luapool.wait(futures)
    ]],
    ["waiting in a coroutine"] = [[
      coroutine.wrap(function() at() pool:map(gate.sleep, { 60 }) end)()
    ]],
    ["waiting under a pcall"] = [[
      while true do pcall(function() at() pool:map(gate.sleep, { 60 }) end) end
    ]],
    ["computing"] = "at() while true do end",
    ["computing under pcalls"] = [[
      at()
      while true do pcall(function() while true do end end) end
    ]],
    ["computing in a coroutine"] = [[
      coroutine.wrap(function() at() while true do end end)()
    ]],
    ["computing in a finalizer"] = [[
      setmetatable({}, { __gc = function() at() while true do end end })
      collectgarbage()
    ]],
    ["computing in a callback"] = [[
      pool:apply_async(gate.now):add_done_callback(function()
        at()
        while true do end
      end)
      pool:close()
      pool:join()
    ]],
    ["in C"] = [[
      at()
      return ("a"):rep(300):find(("a-"):rep(9) .. "b")
    ]],
    ["in C, with tasks that ignore it"] = [[
      pool:map_async(stubborn, { 1, 2 })
      pool:poll(0)
      gate.wait(mark .. ".on", 2)
      at()
      return ("a"):rep(300):find(("a-"):rep(9) .. "b")
    ]],
    ["waiting for a program"] = "at() os.execute 'sleep 0.5'",
    ["opening what nobody writes"] = [[
      os.execute("mkfifo " .. mark .. ".fifo")
      at()
      io.open(mark .. ".fifo")
      while true do end
    ]],
    ["making pools"] = [[
      while true do
        local one = luapool.Pool(2)
        at()
        one:terminate()
      end
    ]],
    ["closing its state"] = [[
      setmetatable({}, { __gc = function() at() while true do end end })
      os.exit(1, true)
    ]],
  }
  for state, text in pairs(states) do
    it("ends a process: " .. state, function() leaves_in_time(text) end)
  end

  it("may come more than once", function()
    leaves_in_time("at() pool:map(gate.sleep, { 60 })", 3)
    leaves_in_time("at() while true do end", 3)
  end)

  it("does not wait for whoever should read the output", function()
    -- A full pipe: what was printed is lost, time is not.
    local result = faults.run(prelude .. [[
      at()
      local pid = leaks.pid()
      os.execute(("(sleep 0.1; kill -TERM %d) &"):format(pid))
      local begun = gate.now()
      while true do io.write(("x"):rep(4096)) end
    ]], { pipe = "sleep 1" })
    assert.is_true(result.seconds < 3)
  end)
end)

describe("a process that leaves at SIGTERM", function()
  faults.guard(before_each, after_each)

  it("leaves as ever where none comes", function()
    for text, status in pairs {
      ["io.write '\\n'"] = 0, ["os.exit(3)"] = 3, ["os.exit(3, true)"] = 3,
    } do
      local result = faults.run(prelude .. text)
      assert.are.equal(status, result.status)
      assert.are.equal("", result.stderr)
      assert.are.equal("kept", result.stdout:sub(1, 4))
    end
  end)

  it("has workers that do not", function()
    local out = faults.output(prelude .. [[
      local ok, e = pcall(pool.apply, pool, function()
        harm.kill(leaks.pid(), 15)
        while true do end
      end)
      print("", e.kind, e.signal)
      print(pool:apply(function() return 1 end))
    ]])
    assert.are.equal("kept\tlost\t15\n1\n", out)
  end)

  it("has children that do not, whoever forks them", function()
    local out = faults.output(prelude .. [[
      local pid = harm.fork(60)
      harm.kill(pid, 15)
      gate.eventually(function() return not leaks.alive(pid) end)
      print()
    ]])
    assert.are.equal("kept\n", out)
  end)

  it("says what it is told wrongly", function()
    local host = require "luapool.host"
    errors.misuse_naming("bad argument #1 to 'exit_on_term'",
      function() host.exit_on_term() end)
    errors.misuse_naming("bad argument #2 to 'exit_on_term'",
      function() host.exit_on_term(0, -1) end)
  end)
end)
