-- SPDX-License-Identifier: MIT
-- Children that live as long as their parent: what they may do, how they are
-- replaced, and that they end with it, whichever way it ends.
local children = require "luapool.children"
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"

local function sleeps() gate.sleep(60) end

describe("children", function()
  faults.guard(before_each, after_each)

  it("run main with their number, and are watched", function()
    local path = gate.name()
    local all <close> = children.start(3, function(number)
      gate.mark(path, tostring(number))
      gate.wait(path, 3)
      os.exit(number + 10)
    end)
    local codes = {}
    assert.are.equal("enough", all:watch(function(number, exitcode, signal)
      assert.is_nil(signal)
      codes[number] = exitcode
      return #codes == 3 and "enough" or nil
    end))
    assert.are.same({ 11, 12, 13 }, codes)
  end)

  it("are forks of this process, apart from it and each other", function()
    local luapool = require "luapool"
    local path, kept = gate.name(), "inherited"
    local pool = faults.pool(1)
    local all <close> = children.start(2, function(number)
      gate.mark(path .. number, table.concat({ kept, tostring(luapool.worker()),
        tostring(io.read "a"), tostring((pcall(pool.apply, pool, sleeps))),
        math.random(1 << 62), "" }, " "))
      gate.mark(path)
      sleeps()
    end)
    gate.wait(path, 2)
    local texts = {}
    for number, pid in pairs(all:pids()) do
      assert.is_true(leaks.alive(pid))
      texts[number] = gate.read(path .. number)
      os.remove(path .. number)
      assert.are.equal("inherited nil  false ", texts[number]:match "^%D+ ")
    end
    assert.are_not.equal(texts[1], texts[2])
  end)

  it("may have pools and children of their own", function()
    local out = faults.output [[
      local children = require "luapool.children"
      local invocation = require "luapool.invocation"
      local inherited = luapool.Pool(1)
      local function main()
        local pool = luapool.Pool(2)
        local squares = pool:map(faults.square, { 1, 2, 3 })
        pool:apply_async(gate.sleep, { 60 })
        local inner <close> = children.start(1, function() os.exit(4) end)
        local code = inner:watch(function(_, exitcode) return exitcode end)
        print(#invocation.finish(), squares[3], code)
        os.exit(5)
      end
      for _ = 1, 2 do
        local one <close> = children.start(1, main)
        print(one:watch(function(_, exitcode) return exitcode end))
      end
      print(inherited:apply(faults.square, { 5 }))
    ]]
    assert.are.equal("1\t9\t4\n5\n1\t9\t4\n5\n25\n", out)
  end)

  it("flush what they print, and say why they failed", function()
    local result = faults.run [[
      local children = require "luapool.children"
      io.stdout:setvbuf "full"
      io.write "before "
      local all <close> = children.start(1, function()
        io.write "printed "
        error "on purpose"
      end)
      all:watch(function(_, exitcode) io.write(exitcode, "\n") return true end)
    ]]
    assert.are.equal("before printed 1\n", result.stdout)
    assert.is_truthy(result.stderr:find "on purpose\nstack traceback:")
    assert.are.equal(0, result.status)
  end)

  it("are replaced, under their number, however they end", function()
    local path = gate.name()
    local all <close> = children.start(2, function(number)
      gate.mark(path, tostring(number))
      sleeps()
    end)
    gate.wait(path, 2)
    local old = all:pids()
    faults.kill(old[2], "KILL")
    local seen = {}
    -- The other one ends the watch once there is the replacement.
    local function on_end(number, exitcode, signal)
      table.insert(seen, { number, exitcode or "nil", signal })
      return number == 1 or nil
    end
    local helper <close> = children.start(1, function()
      gate.wait(path, 3)
      faults.kill(old[1], "KILL")
    end)
    assert.is_true(all:watch(on_end))
    assert.are.same({ { 2, "nil", 9 }, { 1, "nil", 9 } }, seen)
    assert.is_truthy(gate.read(path):find "2$")
    assert.is_nil(all:pids()[1])
    assert.are_not.equal(old[2], all:pids()[2])
    assert.is_true(leaks.alive(all:pids()[2]))
    helper:finish()
  end)

  it("that only end are replaced after pauses, and given up", function()
    local times = {}
    local all <close> = children.start(1, function() os.exit(9) end)
    local e = errors.of("broken", all.watch, all, function()
      times[#times + 1] = gate.now()
    end)
    assert.are.equal(11, #times)
    assert.is_true(times[11] - times[10] >= 0.064)
    assert.is_truthy(e.message:find("exited with status 9", 1, true))
  end)

  it("that cannot be started leave nothing", function()
    errors.misuse_naming("bad argument #1 to 'start'",
      function() children.start(0, sleeps) end)
    errors.misuse_naming("bad argument #2 to 'start'",
      function() children.start(1) end)
    local out = faults.output [[
      local before = leaks.snapshot()
      for n = 6, 40 do -- as many descriptors
        harm.limit("nofile", n)
        local ok, all = pcall(require "luapool.children".start, 3, gate.sleep)
        if ok then all:finish() end
      end
      harm.limit("nofile", 256)
      leaks.check(before)
      print "nothing"
    ]]
    assert.are.equal("nothing\n", out)
  end)

  it("end at finish, stubborn ones too", function()
    local path = gate.name()
    local all = children.start(2, function()
      require "harm".ignore(15)
      gate.mark(path)
      while true do sleeps() end
    end)
    gate.wait(path, 2)
    local pids = all:pids()
    all:finish(0.05)
    assert.is_true(faults.none_alive(pids))
    assert.are.same({}, all:pids())
    all:finish()
  end)
end)

describe("the end of a parent", function()
  faults.guard(before_each, after_each)

  local program = [[
    local host = require "luapool.host"
    host.exit_on_term(0, 0.15)
    local all = require "luapool.children".start(2, function(number)
      host.exit_on_term(0, 0.05)
      local pool = luapool.Pool(2)
      pool:map_async(gate.sleep, { 60, 60 })
      pool:poll(0)
      io.stdout:setvbuf "full"
      io.write("child ", number, "\n")
      gate.mark(os.getenv "LUAPOOL_SPEC_MARK" .. ".at")
      pool:close()
      pool:join()
    end)
    print(leaks.pid())
    io.stdout:flush()
    all:watch()
  ]]

  for _, name in ipairs { "TERM", "KILL" } do
    it("is that of its children and their workers: " .. name, function()
      local running = faults.start(program)
      local pid = math.tointeger(running:wait_for "%d+")
      gate.wait(running:path "at", 2)
      local begun = gate.now()
      faults.kill(pid, name)
      gate.eventually(function() return #running:processes() == 0 end)
      assert.is_true(gate.now() - begun < 1)
      local result = running:wait()
      assert.are.equal("", result.stderr)
      if name == "TERM" then
        assert.are.equal(0, result.status)
        assert.is_truthy(result.stdout:find "child 1\n")
        assert.is_truthy(result.stdout:find "child 2\n")
      end
    end)
  end

  it("of one whose children do not listen, is theirs", function()
    local running = faults.start [[
      require "luapool.host".exit_on_term(0, 0.05)
      local all = require "luapool.children".start(2, function()
        harm.ignore(15)
        gate.mark(os.getenv "LUAPOOL_SPEC_MARK" .. ".at")
        while true do end
      end)
      print(leaks.pid())
      io.stdout:flush()
      all:watch()
    ]]
    local pid = math.tointeger(running:wait_for "%d+")
    gate.wait(running:path "at", 2)
    faults.kill(pid, "TERM")
    assert.are.equal(0, running:wait().status)
  end)
end)
