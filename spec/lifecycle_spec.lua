-- SPDX-License-Identifier: MIT
-- How pools and workers end, in every way there is, and what a worker is while
-- it lives: its descriptors, its output, and the deaths it may die.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local script = require "spec.support.script"

local function square(x) return x * x end
local function sleep_long() os.execute("sleep 600") end

local function numbers(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

-- The process ids of a pool's workers.
local function pids(pool)
  local t = {}
  for i, worker in ipairs(pool:stats()) do t[i] = worker.pid end
  return t
end

local function none_alive(list)
  for _, pid in ipairs(list) do
    if leaks.alive(pid) then return false end
  end
  return true
end

local function all_alive(list)
  for _, pid in ipairs(list) do
    if not leaks.alive(pid) then return false end
  end
  return true
end

local function kill(list, signal)
  os.execute(("kill -%s %s"):format(signal, table.concat(list, " ")))
end

describe("close and join", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(2), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("let what was submitted finish", function()
    local function late(x)
      gate.wait(path)
      return x
    end
    local futures = {}
    for i = 1, 6 do futures[i] = pool:apply_async(late, { i }) end
    pool:close()
    assert.is_false(futures[1]:ready())
    gate.mark(path)
    pool:join()
    for i = 1, 6 do
      assert.is_true(futures[i]:ready())
      assert.are.equal(i, futures[i]:get())
    end
  end)

  it("refuse new tasks but leave old results readable", function()
    local future = pool:map_async(square, { 1, 2 })
    pool:close()
    errors.of("closed", pool.apply_async, pool, square, { 1 })
    assert.are.same({ 1, 4 }, future:get())
    pool:join()
    errors.of("closed", pool.map, pool, square, { 1 })
    assert.are.same({ 1, 4 }, future:get())
  end)

  it("may be called again", function()
    pool:close()
    pool:close()
    pool:join()
    pool:join()
    pool:close()
    pool:terminate()
  end)

  it("reap every worker", function()
    local workers = pids(pool)
    pool:close()
    pool:join()
    local children = leaks.children()
    for _, pid in ipairs(workers) do assert.is_nil(children[pid]) end
  end)

  it("go in this order", function()
    assert.is_false((pcall(pool.join, pool)))
    assert.is_false((pcall(pool.join, pool, 1)))
    assert.are.equal(4, pool:apply(square, { 2 }))
  end)

  it("may time out and be called again", function()
    local future = pool:apply_async(gate.wait, { path })
    pool:close()
    for _, timeout in ipairs { 0.05, 0, -1 } do
      errors.of("timeout", pool.join, pool, timeout)
    end
    assert.is_false(future:ready())
    gate.mark(path)
    pool:join(20)
    assert.is_true(future:successful())
  end)

  it("finish a map that is still in its source list", function()
    local future = pool:map_async(square, numbers(5000))
    pool:close()
    pool:join()
    assert.are.equal(5000, #future:get(0))
  end)
end)

describe("terminate", function()
  leaks.guard(before_each, after_each)

  it("stops at once what runs and what waits", function()
    local pool = luapool.Pool(2)
    local workers, futures, path = pids(pool), {}, gate.name()
    local function busy()
      gate.mark(path)
      sleep_long()
    end
    for i = 1, 5 do futures[i] = pool:apply_async(busy) end
    gate.wait(path, 2)
    pool:terminate()
    assert.is_true(none_alive(workers))
    for i = 1, 5 do
      errors.of("terminated", futures[i].get, futures[i])
      assert.is_false(futures[i]:successful())
    end
    assert.are.equal(2, gate.count(path))
  end)

  it("may be called again, and join after it", function()
    local pool = luapool.Pool(1)
    pool:terminate()
    pool:terminate()
    pool:join()
    pool:close()
    local ok, err = pcall(pool.apply, pool, square, { 1 })
    assert.is_false(ok)
    assert.is_true(errors.is("closed", err) or errors.is("terminated", err))
  end)

  it("kills tasks that do not listen, with their children", function()
    for _, task in ipairs {
      function() while true do pcall(function() while true do end end) end end,
      function() os.execute("trap '' TERM; sleep 600; sleep 600") end,
      function() os.execute("kill -STOP $PPID") end,
    } do
      local pool = luapool.Pool(1)
      local future = pool:apply_async(task)
      gate.eventually(function() return future:running() end)
      pool:terminate()
      assert.is_true(errors.is("terminated", future:exception()))
    end
  end)

  it("keeps the results that are there", function()
    local pool = luapool.Pool(1)
    local future = pool:apply_async(square, { 3 })
    future:wait()
    pool:terminate()
    assert.are.equal(9, future:get())
  end)
end)

describe("restart", function()
  leaks.guard(before_each, after_each)

  it("replaces every worker", function()
    local pool <close> = luapool.Pool(3)
    local before = pids(pool)
    pool:restart()
    local now = pids(pool)
    assert.are.equal(3, #now)
    assert.is_true(none_alive(before))
    assert.is_true(all_alive(now))
    assert.are.same({ 1, 4 }, pool:map(square, { 1, 2 }))
  end)

  it("waits for running tasks and loses none", function()
    local pool <close> = luapool.Pool(2)
    local path, futures = gate.name(), {}
    local function slow(x)
      gate.mark(path)
      gate.sleep(0.05)
      return x
    end
    for i = 1, 8 do futures[i] = pool:apply_async(slow, { i }) end
    gate.wait(path, 2)
    pool:restart()
    for i = 1, 8 do assert.are.equal(i, futures[i]:get()) end
    assert.are.equal(8, gate.count(path))
  end)

  it("forks this process as it is now", function()
    local state = { "before" }
    local pool <close> = luapool.Pool {
      1, initializer = function()
        rawset(_G, "lps_restart", state[1])
      end,
    }
    local get = load "return rawget(_G, 'lps_' .. 'restart')"
    assert.are.equal("before", pool:apply(get))
    state[1] = "now"
    assert.are.equal("before", pool:apply(get))
    pool:restart()
    assert.are.equal("now", pool:apply(get))
  end)
end)

describe("leaving the scope of a pool", function()
  leaks.guard(before_each, after_each)

  it("finishes its tasks and reaps its workers", function()
    local futures = {}
    local workers
    local function slow(x)
      gate.sleep(0.01)
      return x
    end
    do
      local pool <close> = luapool.Pool(2)
      workers = pids(pool)
      for i = 1, 10 do futures[i] = pool:apply_async(slow, { i }) end
    end
    assert.is_true(none_alive(workers))
    for i = 1, 10 do assert.are.equal(i, futures[i]:get(0)) end
  end)

  it("does so by return and break too", function()
    local path = gate.name()
    local function by_return()
      local pool <close> = luapool.Pool(1)
      pool:apply_async(gate.mark, { path })
      return "returned"
    end
    assert.are.equal("returned", by_return())
    assert.are.equal(1, gate.count(path))
    for _ = 1, 1 do
      local pool <close> = luapool.Pool(1)
      pool:apply_async(gate.mark, { path })
      if pool then break end
    end
    assert.are.equal(2, gate.count(path))
  end)

  it("terminates where it is left by an error", function()
    local future
    local ok, err = pcall(function()
      local pool <close> = luapool.Pool(1)
      future = pool:apply_async(sleep_long)
      error("left", 0)
    end)
    assert.is_false(ok)
    assert.are.equal("left", err)
    errors.of("terminated", future.get, future)
  end)

  it("is fine for a pool that is closed or terminated already", function()
    do
      local pool <close> = luapool.Pool(1)
      pool:close()
    end
    do
      local pool <close> = luapool.Pool(1)
      pool:close()
      pool:join()
    end
    local pool <close> = luapool.Pool(1)
    pool:terminate()
  end)
end)

describe("a pool that is collected", function()
  leaks.guard(before_each, after_each)

  it("terminates", function()
    local workers
    local function make(task)
      local pool = luapool.Pool(2)
      workers = pids(pool)
      pool:apply(square, { 2 })
      if task then pool:apply_async(task) end
    end
    make()
    collectgarbage()
    collectgarbage()
    gate.eventually(function() return none_alive(workers) end)
    make(sleep_long)
    collectgarbage()
    collectgarbage()
    gate.eventually(function() return none_alive(workers) end)
  end)

  it("leaves no descriptor, fifty times", function()
    local before = leaks.size(leaks.fds())
    for _ = 1, 50 do luapool.Pool(1):apply(square, { 1 }) end
    collectgarbage()
    collectgarbage()
    assert.are.equal(before, leaks.size(leaks.fds()))
  end)
end)

describe("the end of a script", function()
  leaks.guard(before_each, after_each)

  -- The script's pool has a worker at work in a child, one in a loop, and one
  -- idle; script.run raises an error where any of it is left.
  local busy = [[
    local pool = luapool.Pool(3)
    kept = pool
    pool:apply_async(os.execute, {"sleep 600"})
    pool:apply_async(function() while true do end end)
    pool:apply(math.abs, {1})
    io.write("out ")
  ]]
  local ways = {
    ["its last line"] = { "", 0 },
    ["os.exit()"] = { "os.exit()", 0 },
    ["os.exit(true)"] = { "os.exit(true)", 0 },
    ["os.exit(false)"] = { "os.exit(false)", 1 },
    ["os.exit(3)"] = { "os.exit(3)", 3 },
    ["os.exit(4, true)"] = { "os.exit(4, true)", 4 },
    ["an uncaught error"] = { "error 'uncaught trouble'", 1 },
    ["an uncaught error object"] =
      { "pool:apply(error, {'uncaught trouble'})", 1 },
    ["an exit inside a callback"] = { [[
      pool:apply_async(math.abs, {1}, {callback = function() os.exit(5) end})
        :wait()
    ]], 5 },
    ["an exit inside a coroutine"] =
      { "coroutine.wrap(function() os.exit(6) end)()", 6 },
  }
  for what, way in pairs(ways) do
    it("ends its pools: " .. what, function()
      local result = script.run(busy .. way[1])
      assert.are.equal("out ", result.stdout)
      assert.are.equal(way[2], result.status)
      local trouble = way[1]:find("trouble", 1, true) ~= nil
      local told = result.stderr:find("uncaught trouble", 1, true) ~= nil
      assert.are.equal(trouble, told)
    end)
  end

  it("lets a pool in a scope finish", function()
    assert.are.equal("1\n", script.output([[
      local pool <close> = luapool.Pool(2)
      pool:apply_async(print, {1})
    ]]))
  end)

  it("by a killing signal takes the workers with it", function()
    local result = script.run(busy .. [[
      io.stdout:flush()
      os.execute "kill -KILL $PPID"
    ]])
    assert.are.equal(128 + 9, result.status)
  end)

  it("that runs no pool is what it is", function()
    local result = script.run("print(1) os.exit(7)")
    assert.are.equal("1\n", result.stdout)
    assert.are.equal(7, result.status)
  end)
end)

describe("output", function()
  leaks.guard(before_each, after_each)

  for what, opts in pairs {
    ["a file"] = {}, ["a pipe"] = { pipe = true },
    ["a script read from stdin"] = { by_stdin = true },
  } do
    it("not yet flushed is printed once: " .. what, function()
      assert.are.equal("oncetwice", script.output([[
        io.stdout:setvbuf "full"
        io.write "once"
        do
          local pool <close> = luapool.Pool{3, maxtasksperchild = 1}
          pool:map(math.abs, {1, 2, 3, 4, 5, 6})
        end
        local pool = luapool.Pool(2)
        io.write "twice"
        pool:terminate()
      ]], opts))
    end)
  end

  it("of other open files is written once", function()
    local path = gate.name()
    local file = assert(io.open(path, "w"))
    file:setvbuf("full")
    file:write("once")
    do
      local pool <close> = luapool.Pool { 2, maxtasksperchild = 1 }
      pool:map(square, numbers(6))
      pool:apply_async(os.exit, { 3, true }):wait()
    end
    file:close()
    assert.are.equal("once", gate.read(path))
  end)

  it("of a task is out, line by line, when its result is", function()
    assert.are.equal("line\nend\n", script.output([[
      local pool = luapool.Pool(1)
      local function work() print "line" end
      pool:apply(work)
      print "end"
    ]]))
  end)

  it("of a task is out, all of it, when its pool is closed", function()
    assert.are.equal("line\npart end\n", script.output([[
      do
        local pool <close> = luapool.Pool{1, maxtasksperchild = 1}
        local function work(text) io.write(text) end
        pool:apply(work, {"line\n"})
        pool:apply(work, {"part "})
      end
      print "end"
    ]]))
  end)

  it("of different workers does not mix in lines", function()
    local out = script.output([[
      local pool <close> = luapool.Pool(4)
      local function work(x)
        local letter = string.char(96 + x % 26)
        for i = 1, 40 do print(letter:rep(i % 2 == 0 and 4095 or 70)) end
      end
      local list = {}
      for i = 1, 8 do list[i] = i end
      pool:map(work, list, 1)
    ]], { pipe = true })
    local n = 0
    for line in out:gmatch "[^\n]+" do
      n = n + 1
      assert.is_true(line == line:sub(1, 1):rep(#line))
      assert.is_true(#line == 4095 or #line == 70)
    end
    assert.are.equal(320, n)
  end)

  it("of a dying task is not lost line by line", function()
    assert.are.equal("before\nlost\n", script.output([[
      local pool <close> = luapool.Pool(1)
      local function work()
        print "before"
        os.execute "kill -KILL $PPID"
      end
      print(pool:apply_async(work):exception().kind)
    ]], { pipe = true }))
  end)
end)

describe("a worker", function()
  leaks.guard(before_each, after_each)

  local function descriptors() return leaks.fds() end

  it("has /dev/null for its stdin", function()
    local pool <close> = luapool.Pool(1)
    assert.are.equal("/dev/null", pool:apply(descriptors)[0])
    local function read() return io.read("a"), io.read("l") end
    local text, line = pool:apply(read)
    assert.are.equal("", text)
    assert.is_nil(line)
  end)

  it("does not take the script that its parent reads", function()
    assert.are.equal("nil\nend\n", script.output([[
      local pool <close> = luapool.Pool(1)
      print(pool:apply(load "return (io.read())"))
      print "end"
    ]], { by_stdin = true }))
  end)

  -- Descriptors above 2 that this process did not have before its pools.
  local function own(found, before)
    local t = {}
    for fd, target in pairs(found) do
      if fd > 2 and before[fd] ~= target then t[#t + 1] = target end
    end
    return t
  end

  it("has its own pipe and no other worker's", function()
    local before = leaks.fds()
    local a <close> = luapool.Pool(2)
    local b <close> = luapool.Pool(2)
    local path, seen = gate.name(), {}
    local function look()
      gate.meet(path, 4)
      return leaks.fds()
    end
    local futures = {
      a:apply_async(look), a:apply_async(look),
      b:apply_async(look), b:apply_async(look),
    }
    for _, future in ipairs(futures) do
      local mine = own(future:get(), before)
      assert.is_true(#mine <= 2)
      for _, target in ipairs(mine) do
        assert.is_truthy(target:find "^pipe:")
        assert.is_nil(seen[target])
        seen[target] = true
      end
    end
  end)

  it("that is a replacement has no more", function()
    local before = leaks.fds()
    local pool <close> = luapool.Pool { 2, maxtasksperchild = 1 }
    for _ = 1, 6 do
      assert.is_true(#own(pool:apply(descriptors), before) <= 2)
    end
  end)

  it("gives none to the programs its tasks start", function()
    local before = leaks.fds()
    local pool <close> = luapool.Pool(2)
    local function list()
      local pipe <close> = io.popen("ls -l /proc/self/fd")
      return pipe:read("a"), leaks.fds()
    end
    local text, mine = pool:apply(list)
    local n = 0
    for _, target in ipairs(own(mine, before)) do
      if target:find "^pipe:" then
        local _, times = text:gsub(target:gsub("%p", "%%%0"), "")
        n = n + times
      end
    end
    -- The one pipe that is popen's own.
    assert.is_true(n <= 1)
  end)

  it("gives none to the programs that this process starts", function()
    local before = leaks.fds()
    local pool <close> = luapool.Pool(2)
    local ours = own(leaks.fds(), before)
    local pipe <close> = io.popen("ls -l /proc/self/fd")
    local text = pipe:read("a")
    for _, target in ipairs(ours) do
      assert.is_nil((text:find(target, 1, true)))
    end
    assert.are.equal(1, pool:apply(square, { 1 }))
  end)

  it("has a process group of its own", function()
    local pool <close> = luapool.Pool(1)
    local function group()
      local file <close> = io.open("/proc/self/stat")
      return file:read("a"):match("^.*%) %a %d+ (%d+)")
    end
    assert.are.equal(pids(pool)[1], math.tointeger(pool:apply(group)))
    assert.are_not.equal(group(), pool:apply(group))
  end)
end)

describe("what a child inherits", function()
  leaks.guard(before_each, after_each)

  -- Runs in a worker of a second pool, which inherited the first by the fork.
  local function inside(work)
    local outer <close> = luapool.Pool(1)
    local future = outer:apply_async(gate.sleep, { 0 })
    local iterator = outer:imap(square, { 1, 2 })
    local result
    local function init()
      local function describe_error(...)
        local ok, err = pcall(...)
        if ok then return "no error" end
        return type(err) == "table" and err.kind or tostring(err)
      end
      rawset(_G, "lps_result", work(describe_error, outer, future, iterator))
    end
    do
      local inner <close> = luapool.Pool { 1, initializer = init }
      result = inner:apply(load "return rawget(_G, 'lps_' .. 'result')")
    end
    assert.are.equal(4, outer:apply(square, { 2 }))
    future:wait()
    return result
  end

  it("as a pool is closed", function()
    local kinds = inside(function(try, pool)
      return {
        try(pool.apply, pool, square, { 1 }),
        try(pool.map, pool, square, { 1 }),
        try(pool.apply_async, pool, square, { 1 }),
        try(pool.imap, pool, square, { 1 }),
      }
    end)
    assert.are.same({ "closed", "closed", "closed", "closed" }, kinds)
  end)

  it("as a future or iterator does not work either", function()
    local kinds = inside(function(try, _, future, iterator)
      return { try(future.get, future), try(iterator) }
    end)
    assert.are.same({ "closed", "closed" }, kinds)
  end)

  it("harms nothing by being collected, closed or terminated", function()
    assert.are.equal("done", inside(function(_, pool, future)
      pool:close()
      pool:terminate()
      pcall(future.cancel, future)
      pool, future = nil, nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
      return "done"
    end))
  end)

  it("is not ended by the end of the child", function()
    local pool <close> = luapool.Pool(1)
    local other <close> = luapool.Pool(1)
    errors.of("lost", other.apply, other, os.exit, { 0, true })
    assert.are.equal(9, pool:apply(square, { 3 }))
    assert.are.equal(9, other:apply(square, { 3 }))
  end)
end)

describe("a pool inside a task", function()
  leaks.guard(before_each, after_each)

  it("works", function()
    local function nested(n)
      local inner <close> = luapool.Pool(2)
      local sum = 0
      for _, v in ipairs(inner:map(square, { n, n + 1 })) do sum = sum + v end
      return sum, luapool.worker(), inner:apply(luapool.worker)
    end
    for _, method in ipairs { "fork", "spawn" } do
      local pool <close> = luapool.Pool { 2, start_method = method }
      assert.are.same({ 5, 13, 25 }, pool:map(nested, { 1, 2, 3 }))
    end
  end)

  it("dies with its worker", function()
    local path = gate.name()
    local function nested()
      local inner = luapool.Pool(2)
      inner:apply_async(sleep_long)
      inner:apply_async(function() while true do end end)
      for _, worker in ipairs(inner:stats()) do
        gate.mark(path, worker.pid .. "\n")
      end
      gate.mark(path, "ready")
      sleep_long()
    end
    for _, signal in ipairs { "KILL", "SEGV" } do
      local pool <close> = luapool.Pool(1)
      local future = pool:apply_async(nested)
      gate.eventually(function() return gate.read(path):find "ready" end)
      kill(pids(pool), signal)
      assert.is_true(errors.is("lost", future:exception()))
      local inner = {}
      for pid in gate.read(path):gmatch "%d+" do inner[#inner + 1] = pid end
      assert.are.equal(2, #inner)
      gate.eventually(function() return none_alive(inner) end)
      os.remove(path)
    end
  end)

  it("left open by a task dies with the worker too", function()
    local function leave()
      local inner = luapool.Pool(1)
      rawset(_G, "lps_inner", inner)
      return inner:apply(leaks.pid)
    end
    local pid
    do
      local pool <close> = luapool.Pool(1)
      pid = pool:apply(leave)
      assert.is_true(leaks.alive(pid))
    end
    gate.eventually(function() return not leaks.alive(pid) end)
  end)
end)

describe("the death of a worker", function()
  leaks.guard(before_each, after_each)

  -- Item 10 of 20 runs `death`; all else must be as if nothing had happened.
  local function only_that_task(pool, death, opts)
    local path = gate.name()
    local function work(x)
      gate.mark(path)
      if x == 10 then death() end
      return x * x
    end
    opts = opts or {}
    opts.on_error = "collect"
    local results, errs = pool:map(work, numbers(20), opts)
    for i = 1, 20 do
      if i ~= 10 then
        assert.is_nil(errs[i])
        assert.are.equal(i * i, results[i])
      end
    end
    assert.is_nil(results[10])
    assert.is_true(errors.is("lost", errs[10]))
    assert.are.equal(10, errs[10].index)
    assert.are.equal(20, gate.count(path))
    assert.are.same({ 1, 4 }, pool:map(square, { 1, 2 }))
    gate.eventually(function()
      pool:poll(0)
      return all_alive(pids(pool))
    end)
    return errs[10]
  end

  for name, number in pairs {
    KILL = 9, SEGV = 11, ABRT = 6, BUS = 7, FPE = 8,
  } do
    it("by SIG" .. name .. " costs the one task", function()
      local pool <close> = luapool.Pool(2)
      local err = only_that_task(pool, function()
        os.execute("kill -" .. name .. " $PPID")
      end)
      assert.are.equal(number, err.signal)
      assert.is_truthy(tostring(err):find(
        ("killed by SIG%s (%d)"):format(name, number), 1, true))
    end)
  end

  for _, case in ipairs {
    { "os.exit(0)", 0 }, { "os.exit(3)", 3 }, { "os.exit(true, true)", 0 },
    { "os.exit(false)", 1 }, { "os.exit()", 0 },
  } do
    it("by " .. case[1] .. " costs the one task", function()
      local pool <close> = luapool.Pool(2)
      local err = only_that_task(pool, load(case[1]))
      assert.are.equal(case[2], err.exitcode)
      assert.is_nil(err.signal)
    end)
  end

  it("by an os.exit kept from before costs the one task", function()
    local keep = { exit = os.exit }
    local pool <close> = luapool.Pool {
      2, initializer = function() rawset(_G, "lps_keep", keep) end,
    }
    local err = only_that_task(pool, load "rawget(_G, 'lps_keep').exit(4)")
    assert.are.equal(4, err.exitcode)
  end)

  for _, chunksize in ipairs { 1, 7, 20 } do
    it("costs the one task in chunks of " .. chunksize, function()
      local pool <close> = luapool.Pool(1)
      only_that_task(pool, function() os.exit(1) end,
        { chunksize = chunksize })
    end)
  end

  it("under spawn costs the one task", function()
    local pool <close> = luapool.Pool { 2, start_method = "spawn" }
    only_that_task(pool, function() os.exit(1) end)
  end)

  it("keeps large results made before it in its chunk", function()
    local pool <close> = luapool.Pool(1)
    local function work(x)
      if x == 4 then os.execute("kill -KILL $PPID") end
      return ("x"):rep(300000) .. x
    end
    local results, errs = pool:map(work, numbers(6),
      { chunksize = 6, on_error = "collect" })
    assert.are.equal(1, leaks.size(errs))
    assert.are.equal(4, errs[4].index)
    for _, i in ipairs { 1, 2, 3, 5, 6 } do
      assert.are.equal(300001, #results[i])
    end
  end)

  it("is noticed though a child of the task lives on", function()
    local pool <close> = luapool.Pool(1)
    local path = gate.name()
    local function work()
      os.execute("sleep 600 & echo $! >" .. path)
      os.execute("kill -KILL $PPID")
    end
    local start = gate.now()
    errors.of("lost", pool.apply, pool, work)
    assert.is_true(gate.now() - start < 20)
    local pid = math.tointeger(gate.read(path))
    gate.eventually(function() return not leaks.alive(pid) end)
    assert.are.equal(4, pool:apply(square, { 2 }))
  end)

  it("kills what is left of its group however it ends", function()
    local path = gate.name()
    local function work() os.execute("sleep 600 & echo $! >" .. path) end
    for _, ending in ipairs { "close", "terminate", "recycle" } do
      local opts = { 1, maxtasksperchild = ending == "recycle" and 1 or nil }
      local pool = luapool.Pool(opts)
      pool:apply(work)
      local pid = math.tointeger(gate.read(path))
      if ending == "terminate" then
        pool:terminate()
      else
        if ending == "recycle" then pool:apply(square, { 1 }) end
        pool:close()
        pool:join()
      end
      gate.eventually(function() return not leaks.alive(pid) end)
    end
  end)

  it("after its result was written does not matter", function()
    local pool <close> = luapool.Pool(1)
    local path = gate.name()
    local function work()
      os.execute("(sleep 0.2; kill -KILL $PPID; echo >" .. path .. ") &")
      return ("r"):rep(1000)
    end
    local pid = pids(pool)[1]
    local future = pool:apply_async(work)
    gate.eventually(function() return not leaks.alive(pid) end)
    assert.are.equal(1000, #future:get())
    assert.are.equal(4, pool:apply(square, { 2 }))
  end)

  it("while idle is never seen by the next tasks", function()
    local pool <close> = luapool.Pool(3)
    pool:map(square, numbers(10))
    for _, n in ipairs { 1, 3 } do
      local workers = pids(pool)
      kill({ table.unpack(workers, 1, n) }, "KILL")
      gate.eventually(function()
        return none_alive({ table.unpack(workers, 1, n) })
      end)
      assert.are.equal(20, #pool:map(square, numbers(20)))
      assert.are.equal(3, #pool)
    end
    assert.are.equal(4, pool:apply(square, { 2 }))
  end)

  it("while idle is not seen even at that moment", function()
    local pool <close> = luapool.Pool(2)
    for i = 1, 10 do
      kill(pids(pool), "KILL")
      assert.are.equal(i * i, pool:apply(square, { i }))
    end
  end)

  it("leaves the statuses of other children alone", function()
    local pool <close> = luapool.Pool(2)
    local pipe = io.popen("sleep 0.1; exit 3")
    pool:map(os.exit, { 1, 1, 1 }, { on_error = "collect" })
    local _, _, code = os.execute("exit 5")
    assert.are.equal(5, code)
    local _, how, status = pipe:close()
    assert.are.same({ "exit", 3 }, { how, status })
  end)

  it("of many at each other's hands settles every future", function()
    local pool <close> = luapool.Pool { 5, max_restarts = 1000 }
    local function murder(list)
      os.execute(("kill -KILL %d"):format(list[math.random(#list)]))
      return true
    end
    local futures = {}
    for i = 1, 40 do futures[i] = pool:apply_async(murder, { pids(pool) }) end
    for i = 1, 40 do
      local err = futures[i]:exception()
      assert.is_true(err == nil or errors.is("lost", err))
    end
    assert.are.equal(4, pool:apply(square, { 2 }))
    assert.are.equal(5, #pool)
  end)
end)

describe("the descriptors of this process", function()
  leaks.guard(before_each, after_each)

  it("close with the pool, also after deaths", function()
    local before = leaks.size(leaks.fds())
    do
      local pool <close> = luapool.Pool(2)
      local function work(x) if x % 2 == 0 then os.exit(1) end end
      pool:map(work, numbers(40), { on_error = "collect" })
      assert.is_true(leaks.size(leaks.fds()) <= before + 16)
    end
    assert.are.equal(before, leaks.size(leaks.fds()))
    assert.is_truthy(lfs.attributes("/proc/self/fd/0"))
  end)
end)
