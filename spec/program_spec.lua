-- SPDX-License-Identifier: MIT
-- Programs that run beside us, and signals as something to wait for: the parts
-- of the host that `lambdapool local` stands on.
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local host = require "luapool.host"
local leaks = require "spec.support.leaks"

local TERM, KILL, USR1 = 15, 9, 10

local programs = {} -- of the test at hand

local function start(line, env, directory)
  local program = assert(host.program {
    path = "/bin/bash", argv = { "sh", "-c", line }, env = env or {},
    directory = directory or "/",
  })
  programs[#programs + 1] = program
  return program
end

local function close_all()
  while #programs > 0 do table.remove(programs):close() end
end

-- All that it prints until it has no output any more.
local function output(program)
  local text = ""
  while true do
    local piece = program:read()
    if piece == false then return text end
    if piece == nil then host.poll({ program:output() }, 10) end
    text = text .. (piece or "")
  end
end

-- Waits for its end: exit code, signal.
local function ended(program)
  host.poll({ program:pidfd() }, 10)
  local is_over, code, signal = program:ended()
  assert(is_over, "it does not end")
  return code, signal
end

local function guard()
  leaks.guard(before_each, after_each)
  leaks.finish(close_all)
end

describe("a program", function()
  guard()

  it("prints on both its outputs, which are one", function()
    local p = start "echo out; echo err >&2; printf more"
    assert.are.equal("out\nerr\nmore", output(p))
    assert.are.equal(0, (ended(p)))
    assert.are.equal(-1, p:output())
    assert.are.equal(false, p:read())
  end)

  it("has the name, the environment and the directory it is given", function()
    local p = start("echo $0; env | sort; pwd", { "A=b=c", "PATH=/usr/bin" },
      "/usr")
    local text = output(p)
    assert.truthy(text:find "^sh\nA=b=c\n")
    assert.truthy(text:find "\nPATH=/usr/bin\n")
    assert.falsy(text:find "HOME=")
    assert.truthy(text:find "/usr\n$")
  end)

  it("has no descriptor but the standard ones, and no signal blocked",
    function()
      local keep <close> = assert(io.open "/dev/null")
      local signals <close> = assert(host.signals { USR1 })
      local text = output(start "ls /proc/self/fd; grep SigBlk /proc/$$/status")
      assert.truthy(text:find "^0\n1\n2\n3\nSigBlk:\t0+\n$") -- 3 is ls's own
      assert.truthy(keep and signals)
    end)

  it("says how it ended", function()
    assert.are.equal(7, (ended(start "exit 7")))
    local p = start "kill -SEGV $$"
    assert.are.same({ nil, 11 }, { ended(p) })
    p = start "sleep 87"
    assert.is_false((p:ended()))
    p:kill(KILL)
    assert.are.same({ nil, 9 }, { ended(p) })
    assert.is_nil(p:pid())
  end)

  it("that cannot be started says why, and ends with 127", function()
    local p = assert(host.program { path = "/no/such", argv = { "x" },
      env = {}, directory = "/" })
    programs[1] = p
    assert.truthy(output(p):find "could not start /no/such: No such file")
    assert.are.equal(127, (ended(p)))
  end)

  it("leads a group that ends with it", function()
    local p = start "sleep 87 & echo $!"
    local pid
    host.poll({ p:output() }, 10)
    pid = math.tointeger(p:read())
    ended(p)
    gate.eventually(function() return not leaks.alive(pid) end)
  end)

  it("may tidy up when it is told to end", function()
    local p = start "trap 'echo tidy; exit 3' TERM; echo up; sleep 87 & wait"
    host.poll({ p:output() }, 10)
    p:read()
    p:kill(TERM)
    assert.are.equal("tidy\n", output(p))
    assert.are.equal(3, (ended(p)))
  end)

  it("is killed where it does not, after a grace", function()
    local p = start "trap '' TERM; echo up; while :; do sleep 1; done"
    host.poll({ p:output() }, 10)
    local before = gate.now()
    p:stop(0.2)
    local took = gate.now() - before
    assert.is_true(took >= 0.2 and took < 2)
    assert.are.same({ true, nil, KILL }, { p:ended() })
  end)

  it("ends with its parent, however that ends, and with all it has started",
    function()
      for _, how in ipairs { "KILL", "TERM" } do
        local r = faults.start([[
          local host = require "luapool.host"
          local p = assert(host.program { path = "/bin/sh",
            argv = { "sh", "-c", "sleep 87 & echo up; wait" },
            env = { "LUAPOOL_SPEC_MARK=" .. os.getenv "LUAPOOL_SPEC_MARK",
              "PATH=/bin" }, directory = "/" })
          host.poll({ p:output() }, 10)
          io.stdout:write(leaks.pid(), "\n") io.stdout:flush()
          gate.sleep(60)
        ]])
        faults.kill(math.tointeger(r:wait_for "(%d+)\n"), how)
        assert.is_true(r:wait().status > 0) -- which looks for what is left
      end
    end)

  it("that is dropped is ended", function()
    local pid = start("sleep 87"):pid()
    programs = {}
    collectgarbage()
    collectgarbage()
    assert.is_false(leaks.alive(pid))
  end)

  it("wants each of its fields", function()
    assert.has_error(function() host.program {} end,
      "bad field 'path' (string expected, got nil)")
    assert.has_error(function()
      host.program { path = "/x", directory = "/", argv = { true }, env = {} }
    end, "bad field 'argv' (not a list of strings)")
  end)
end)

describe("signals", function()
  guard()

  it("are read, and do nothing else", function()
    local signals <close> = assert(host.signals { TERM, USR1 })
    assert.is_nil(signals:take())
    assert.is_false(host.poll({ signals:fileno() }, 0))
    faults.kill(leaks.pid(), "TERM")
    faults.kill(leaks.pid(), "USR1")
    assert.is_true(host.poll({ signals:fileno() }, 10))
    local seen = { [signals:take()] = true, [signals:take()] = true }
    assert.are.same({ [TERM] = true, [USR1] = true }, seen)
    assert.is_nil(signals:take())
  end)

  it("have their effect again once closed", function()
    local r = faults.run [[
      local host = require "luapool.host"
      local signals = host.signals { 15 }
      signals:close()
      signals:close()
      assert(signals:fileno() == -1 and signals:take() == nil)
      faults.kill(leaks.pid(), "TERM")
      gate.sleep(10)
    ]]
    assert.are.equal(128 + TERM, r.status)
  end)
end)
