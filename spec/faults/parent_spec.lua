-- SPDX-License-Identifier: MIT
-- What befalls the parent: its death, in every state of its workers, signals,
-- and what it was started with.
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"

-- A pool with an idle worker, one in a program, one in a loop, one in a C
-- function and one in the middle of a result; and a grandchild of a task.
local BUSY = [[
  local pool = luapool.Pool(6)
  kept = pool
  pool:apply_async(os.execute, {"sleep 60"})
  pool:apply_async(function() while true do end end)
  pool:apply_async(function()
    return ("a"):rep(300):find(("a-"):rep(8) .. "b")
  end)
  pool:apply_async(string.rep, {"x", 50 << 20})
  pool:apply_async(function() harm.fork(60) gate.sleep(60) end)
  pool:poll(0.2)
  for _, w in ipairs(pool:stats()) do io.write(w.pid, " ") end
  print(leaks.pid(), "ready")
  io.stdout:flush()
]]
local WAIT = "pool:poll(60)"

local function parent_of(program)
  return math.tointeger((program:wait_for "(%d+)\tready"))
end

describe("a parent that is killed", function()
  faults.guard(before_each, after_each)

  for what, ending in pairs {
    ["in a wait"] = WAIT, ["in a loop"] = "while true do end",
    ["in a program"] = "os.execute 'exec sleep 3'",
  } do
    it("leaves no worker alive: " .. what, function()
      local program = faults.start(BUSY .. ending,
        { linger = what == "in a program" and 4 or 1 })
      local parent = parent_of(program)
      local workers = {}
      for pid in program:printed():gmatch "(%d+) " do
        workers[#workers + 1] = pid
      end
      assert.are.equal(6, #workers)
      faults.kill(parent, "KILL")
      gate.eventually(function() return faults.none_alive(workers) end, 1,
        "the workers' end")
      assert.are.equal(137, program:wait().status)
    end)
  end

  it("leaves no stopped worker alive", function()
    local program = faults.start(BUSY .. WAIT)
    local parent = parent_of(program)
    for pid in program:printed():gmatch "(%d+) " do
      faults.kill(math.tointeger(pid), "STOP")
    end
    faults.kill(parent, "KILL")
    assert.are.equal(137, program:wait().status)
  end)

  it("leaves no worker of a pool inside a task", function()
    local program = faults.start [[
      local pool = luapool.Pool(2)
      pool:apply_async(function()
        local inner = luapool.Pool(2)
        inner:apply_async(function() while true do end end)
        inner:apply(os.execute, {"sleep 60"})
      end)
      pool:poll(0.2)
      print(leaks.pid(), "ready")
      io.stdout:flush()
      pool:poll(60)
    ]]
    faults.kill(parent_of(program), "KILL")
    assert.are.equal(137, program:wait().status)
  end)

  it("while its workers are being born leaves none", function()
    faults.needs_strace(pending)
    local result = faults.run([[
      local pool = luapool.Pool(3)
      harm.kill(leaks.pid(), 9)
    ]], { under = faults.strace "prctl:delay_enter=300000" })
    assert.are.equal(137, result.status)
  end)

  it("while its workers are being born, at other places #slow", function()
    faults.needs_strace(pending)
    for _, call in ipairs { "setpgid", "prctl", "getppid", "close",
      "rt_sigaction" } do
      for when = 1, 4 do
        local inject = ("%s:delay_enter=300000:when=%d"):format(call, when)
        faults.run([[
          local pool = luapool.Pool(3)
          harm.kill(leaks.pid(), 9)
        ]], { under = faults.strace(inject), linger = 3 })
      end
    end
  end)
end)

describe("a parent that is told to end", function()
  faults.guard(before_each, after_each)

  it("by SIGTERM ends so, with its workers", function()
    local program = faults.start(BUSY .. WAIT)
    faults.kill(parent_of(program), "TERM")
    assert.are.equal(128 + 15, program:wait().status)
  end)

  it("by SIGHUP ends so, with its workers", function()
    local program = faults.start(BUSY .. WAIT)
    faults.kill(parent_of(program), "HUP")
    assert.are.equal(128 + 1, program:wait().status)
  end)

  -- The host has a handler; in stock Lua the program ends.
  local host = faults.is_host()

  local function of_host(...) if host then it(...) end end
  local function of_stock(...) if not host then it(...) end end

  of_host("by SIGINT goes on with a usable pool", function()
    local program = faults.start [[
      local pool <close> = luapool.Pool(2)
      local before = faults.pids(pool)
      print(leaks.pid(), "ready") io.stdout:flush()
      local ok, e = pcall(pool.map, pool, gate.sleep, {20, 20, 20})
      print(ok, e.kind)
      print(table.concat(pool:map(faults.square, {1, 2, 3}), " "))
      faults.sound(pool)
      print "again" io.stdout:flush()
      pool:map(gate.sleep, {20, 20, 20})
    ]]
    local parent = parent_of(program)
    gate.sleep(0.2)
    faults.kill(parent, "INT")
    assert.are.equal("false\tinterrupted\n1 4 9\n",
      program:wait_for "ready\n(.*)again\n")
    gate.sleep(0.2)
    faults.kill(parent, "INT") -- the second in one call of the host: it ends
    assert.are.equal(128 + 2, program:wait().status)
  end)

  of_host("by SIGINT of the whole group goes on too", function()
    local program = faults.start [[
      local pool <close> = luapool.Pool(2)
      print(table.concat(faults.pids(pool), " "), leaks.pid(), "ready")
      io.stdout:flush()
      local ok, e = pcall(pool.map, pool, gate.sleep, {20, 20, 20})
      print(ok, e.kind)
      print(table.concat(pool:map(faults.square, {1, 2, 3}), " "))
      print(pool:stats().restarts)
    ]]
    parent_of(program)
    gate.sleep(0.2)
    for pid in program:printed():gmatch "%d+" do
      faults.kill(math.tointeger(pid), "INT")
    end
    assert.are.equal("false\tinterrupted\n1 4 9\n2\n",
      program:wait().stdout:match "ready\n(.*)")
  end)

  -- No worker is there to be left alone: the task that runs ends as well.
  for what, case in pairs {
    ["a map"] = { "show(pool.map, pool, bad, {1, 2, 3})",
      "false interrupted\n" },
    ["a map that collects"] =
      { "show(pool.map, pool, bad, {1, 2, 3}, {on_error = 'collect'})",
        "false interrupted\n" },
    ["an apply"] = { "show(pool.apply, pool, bad, {2})",
      "false interrupted\n" },
    ["a future"] = { [[
      local future = pool:apply_async(bad, {2})
      show(future.get, future)
      show(future.get, future)
      ]], "false interrupted\nfalse interrupted\n" },
    ["an iterator"] = { [[
      for i = 1, 3 do
        show(function() for _, x in pool:imap(bad, {i}) do return x end end)
      end
      ]], "true 1\nfalse interrupted\ntrue 3\n" },
    ["a call inside a task"] = { [[
      show(pool.map, pool, function(x) return pool:apply(bad, {x}) end, {2})
      ]], "false interrupted\n" },
    ["a wait inside a task"] = { [[
      show(pool.map, pool, function()
        local inner <close> = luapool.Pool(1)
        inner:map(function() harm.kill(parent, 2) gate.sleep(20) end, {1})
      end, {1})
      ]], "false interrupted\n" },
    ["an initializer"] = { [[
      show(luapool.Pool, {processes = 0, initializer = bad, initargs = {2}})
      ]], "false interrupted\n" },
    ["a task that catches it"] =
      { "show(pool.apply, pool, function() return (pcall(bad, 2)) end)",
        "true false\n" },
  } do
    of_host("by SIGINT in a pool without workers: " .. what, function()
      assert.are.equal(case[2] .. "9\n", faults.output([[
        local parent = leaks.pid()
        local pool <close> = luapool.Pool(0)
        local function bad(x)
          if x == 2 then
            harm.kill(parent, 2)
            while true do end
          end
          return x
        end
        local function show(...)
          local ok, e = pcall(...)
          print(tostring(ok) .. " " .. tostring(not ok and e.kind or e))
        end
        ]] .. case[1] .. " print(pool:apply(faults.square, {3}))"))
    end)
  end

  of_stock("by SIGINT in stock Lua leaves nothing", function()
    local program = faults.start(BUSY .. WAIT)
    faults.kill(parent_of(program), "INT")
    local result = program:wait()
    assert.are.equal(1, result.status) -- as of any script in it
    assert.is_truthy(result.stderr:find "interrupted!")
  end)
end)

describe("what a job was started with", function()
  faults.guard(before_each, after_each)

  -- Prints to stderr where stdout is not to be had.
  local job = [[
    local path = ...
    local out = assert(io.open(os.getenv "LUAPOOL_SPEC_OUT", "w"))
    local pool = luapool.Pool(3)
    local list = faults.numbers(300)
    local sum = 0
    for _, v in ipairs(pool:map(faults.square, list)) do sum = sum + v end
    out:write(sum, "\n")
    local results, errs = pool:map(function(x)
      if x == 5 then harm.kill(leaks.pid(), 9) end
      if x == 7 then os.exit(3) end
      print(x)
      return x
    end, faults.numbers(10), {on_error = "collect"})
    out:write(errs[5].signal, " ", errs[7].exitcode, " ", #results, "\n")
    out:write(select(3, os.execute "exit 5"), "\n")
    local pipe = io.popen "exit 6"
    out:write(select(3, pipe:close()), "\n")
    faults.sound(pool)
    pool:close()
    pool:join()
    out:write(next(leaks.children()) == nil and "none" or "some", "\n")
    out:close()
  ]]
  local good = "9045050\n9 3 10\n5\n6\nnone\n"

  local function same(opts)
    local path = gate.name()
    opts.env = { LUAPOOL_SPEC_OUT = path }
    local result = faults.run(job, opts)
    assert.are.equal(good, gate.read(path))
    return result
  end

  it("is nothing special", function()
    assert.are.equal(0, same({}).status)
  end)

  for _, option in ipairs {
    "--ignore-signal=CHLD", "--ignore-signal=PIPE", "--ignore-signal=HUP",
    "--ignore-signal", "--block-signal", "--block-signal=CHLD",
    "--block-signal=TERM", "--block-signal=CONT",
  } do
    it("makes no difference: env " .. option, function()
      local result = same { under = { "env", option } }
      assert.are.equal("", result.stderr)
      assert.are.equal(0, result.status)
    end)
  end

  local closed = { "<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- 2>&-",
    "<&- >&- 2>&-" }
  for _, redirect in ipairs(closed) do
    it("makes no difference: " .. redirect, function()
      if redirect:find "^>&" or redirect:find " >&" then
        -- Where the host has put /dev/null, stock Lua opens the next file.
        if not faults.is_host() then pending "stock Lua leaves it closed" end
      end
      same { redirect = redirect }
    end)
  end

  it("may be a pipe that nobody reads on", function()
    local path = gate.name()
    local result = faults.run([[
      local pool <close> = luapool.Pool(2)
      for i = 1, 100000 do
        if not io.write("line ", i, "\n") then break end
        if i % 1000 == 0 then pool:apply(faults.square, {i}) end
      end
    ]], { pipe = "head -1 >" .. path })
    assert.are.equal("line 1\n", gate.read(path))
    assert.are.equal("", result.stderr)
  end)

  it("may be a pipe that nobody reads on, of the workers too", function()
    local path = gate.name()
    faults.run([[
      local pool <close> = luapool.Pool(2)
      pool:map(function(x) print(("line"):rep(1000)) end,
        faults.numbers(100), {on_error = "collect", chunksize = 1})
    ]], { pipe = "head -1 >" .. path })
    assert.are.equal(4001, #gate.read(path))
  end)
end)

describe("a rain of signals", function()
  faults.guard(before_each, after_each)

  -- Each with a handler that restarts nothing, at 1 kHz, in every process.
  for _, name in ipairs { "USR1", "WINCH" } do
    it("loses nothing: SIG" .. name, function()
      local out = faults.output([[
        local signal = faults.signals.]] .. name .. [[

        local pool <close> = luapool.Pool {
          2, initializer = function() harm.pester(signal, 1000) end,
        }
        harm.pester(signal, 1000)
        local text = ("x"):rep(100000)
        local function work(x, s)
          if x % 50 == 0 then gate.sleep(0.005) end
          return x + #s
        end
        local futures = {}
        for i = 1, 1000 do futures[i] = pool:apply_async(work, {i, text}) end
        for i = 1, 1000 do
          assert(futures[i]:get() == i + 100000)
        end
        local list = pool:map(faults.square, faults.numbers(1000), 1)
        for i = 1, 1000 do assert(list[i] == i * i) end
        print(pool:stats().restarts, harm.pests() > 50,
          pool:apply(harm.pests) > 50)
      ]])
      assert.are.equal("0\ttrue\ttrue\n", out)
    end)
  end

  it("with the default action does not matter", function()
    local pool = faults.pool(2)
    for i = 1, 200 do
      faults.kill(faults.pids(pool), "WINCH")
      faults.kill(faults.pids(pool), "CONT")
      faults.kill(faults.pids(pool), "INT")
      assert.are.equal(i * i, pool:apply(faults.square, { i }))
    end
    assert.are.equal(0, pool:stats().restarts)
  end)
end)

describe("children of the parent's own", function()
  faults.guard(before_each, after_each)

  it("keep their statuses while workers die", function()
    local pool = faults.pool { 2, max_restarts = 10000 }
    for i = 1, 10 do
      local pipe = io.popen("sleep 0.02; exit " .. i)
      local futures = {}
      for j = 1, 4 do futures[j] = pool:apply_async(os.exit, { 1 }) end
      for j = 1, 4 do faults.failure(futures[j], "lost") end
      assert.are.equal(4, pool:apply(faults.square, { 2 }))
      assert.are.equal(i, select(3, os.execute("exit " .. i)))
      local _, how, status = pipe:close()
      assert.are.same({ "exit", i }, { how, status })
    end
    faults.sound(pool)
  end)
end)
