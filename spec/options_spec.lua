-- SPDX-License-Identifier: MIT
-- What the options of a pool and of a call do: limits of time, retries, errors
-- collected, callbacks, seeds, initializers and the replacement of workers.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

local function square(x) return x * x end
local function pass(...) return ... end
local function die() os.execute("kill -KILL $PPID") end

local function numbers(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

-- Fails on the first run of all, whichever worker that is in.
local function die_once(path)
  gate.mark(path)
  if gate.count(path) == 1 then os.execute("kill -KILL $PPID") end
  return gate.count(path)
end

-- How many errors of each kind there are.
local function kinds(errs)
  local count = {}
  for _, err in pairs(errs) do
    count[err.kind] = (count[err.kind] or 0) + 1
  end
  return count
end

describe("timeout", function()
  leaks.guard(before_each, after_each)

  -- Tasks that never end of themselves; each gets a path to mark.
  local endless = {
    ["a loop"] = function(path)
      gate.mark(path)
      while true do end
    end,
    ["a loop of protected calls"] = function(path)
      gate.mark(path)
      while true do pcall(function() while true do end end) end
    end,
    ["a call inside C"] = function(path)
      gate.mark(path)
      return ("a"):rep(200):find(("a-"):rep(6) .. "b")
    end,
    ["a child"] = function(path)
      gate.mark(path)
      os.execute("sleep 600")
    end,
    ["a child that ignores SIGTERM"] = function(path)
      gate.mark(path)
      os.execute("trap '' TERM; sleep 600; sleep 600")
    end,
    ["being stopped"] = function(path)
      gate.mark(path)
      os.execute("kill -STOP $PPID")
    end,
  }
  for what, task in pairs(endless) do
    it("kills " .. what .. " and nothing else", function()
      local pool <close> = luapool.Pool(2)
      local path = gate.name()
      local function work(x)
        if x == 3 then task(path) end
        return x
      end
      local results, errs = pool:map(work, numbers(8),
        { timeout = 0.3, on_error = "collect" })
      assert.are.equal(1, gate.count(path))
      assert.are.same({ timeout = 1 }, kinds(errs))
      assert.are.equal(3, errs[3].index)
      for _, i in ipairs { 1, 2, 4, 5, 6, 7, 8 } do
        assert.are.equal(i, results[i])
      end
      assert.are.same({ 1, 4, 9 }, pool:map(square, numbers(3)))
      assert.are.equal(2, #pool)
    end)
  end

  it("kills what the task has started", function()
    local pool <close> = luapool.Pool(1)
    local path = gate.name()
    local function work()
      os.execute("sleep 600 & echo $! >" .. path .. "; wait")
    end
    errors.of("timeout", pool.apply, pool, work, {}, { timeout = 0.3 })
    local pid = math.tointeger(gate.read(path))
    gate.eventually(function() return not leaks.alive(pid) end)
  end)

  it("counts from the start of each task", function()
    local pool <close> = luapool.Pool(1)
    local function nap()
      gate.sleep(0.1)
      return true
    end
    local opts = { timeout = 1.2 }
    local mapped, futures = pool:map_async(nap, numbers(8), opts), {}
    for i = 1, 7 do futures[i] = pool:apply_async(nap, {}, opts) end
    assert.are.equal(8, #mapped:get())
    for i = 1, 7 do assert.is_true(futures[i]:get()) end
  end)

  it("does not count a result that is only read late", function()
    local pool <close> = luapool.Pool(1)
    local path = gate.name()
    local function work()
      gate.mark(path)
      return "early"
    end
    local future = pool:apply_async(work, {}, { timeout = 0.3 })
    gate.wait(path)
    gate.sleep(0.5)
    assert.are.equal("early", future:get())
  end)

  it("of the pool holds for every call", function()
    local pool <close> = luapool.Pool { 1, timeout = 0.1 }
    errors.of("timeout", pool.apply, pool, gate.sleep, { 60 })
    errors.of("timeout", pool.map, pool, gate.sleep, { 60 })
    local future = pool:apply_async(gate.sleep, { 60 })
    errors.of("timeout", future.get, future)
    assert.are.equal(4, pool:apply(square, { 2 }))
  end)

  it("of a call takes the place of the pool's", function()
    local pool <close> = luapool.Pool { 1, timeout = 0.05 }
    local function nap()
      gate.sleep(0.2)
      return true
    end
    assert.is_true(pool:apply(nap, {}, { timeout = 20 }))
    errors.of("timeout", pool.apply, pool, nap)
  end)

  it("names worker, item and function", function()
    local pool <close> = luapool.Pool(1)
    local function work(x) while x == 2 do end end
    local err = errors.of("timeout", pool.map, pool, work, { 1, 2 },
      { timeout = 0.1 })
    assert.are.equal(2, err.index)
    assert.is_truthy(err.name:find("options_spec.lua:", 1, true))
  end)
end)

describe("deadline", function()
  leaks.guard(before_each, after_each)

  it("ends the call and keeps what is done", function()
    local pool <close> = luapool.Pool(2)
    local path, never = gate.name(), gate.name()
    local function work(x)
      gate.mark(path)
      if x > 2 then gate.wait(never, 1, 60) end
      return x * 10
    end
    local err = errors.of("timeout", pool.map, pool, work, numbers(20),
      { deadline = 0.6, chunksize = 1 })
    assert.are.equal(10, err.results[1])
    assert.are.equal(20, err.results[2])
    assert.are.equal(2, leaks.size { err.results[1], err.results[2],
      err.results[3], err.results[4] })
    assert.are.equal(25, pool:apply(square, { 5 }))
    assert.are.equal(4, gate.count(path))
  end)

  it("holds for the async calls and for apply", function()
    local pool <close> = luapool.Pool(1)
    local opts = { deadline = 0.1 }
    errors.of("timeout", pool.apply, pool, gate.sleep, { 60 }, opts)
    local future = pool:apply_async(gate.sleep, { 60 }, opts)
    errors.of("timeout", future.get, future)
    future = pool:map_async(gate.sleep, { 0, 60 },
      { deadline = 0.3, chunksize = 1 })
    local err = errors.of("timeout", future.get, future)
    assert.is_table(err.results)
    assert.are.equal(25, pool:apply(square, { 5 }))
  end)

  it("counts the time a task waits for a worker", function()
    local pool <close> = luapool.Pool(1)
    local path, ran = gate.name(), gate.name()
    local first = pool:apply_async(gate.wait, { path })
    local second = pool:apply_async(gate.mark, { ran }, { deadline = 0.1 })
    errors.of("timeout", second.get, second)
    gate.mark(path)
    first:get()
    assert.are.equal(0, gate.count(ran))
  end)

  it("holds for an imap", function()
    local pool <close> = luapool.Pool(1)
    local n = 0
    errors.of("timeout", function()
      for _ in pool:imap(gate.sleep, { 0, 60, 0 }, { deadline = 0.4 }) do
        n = n + 1
      end
    end)
    assert.are.equal(1, n)
    assert.are.equal(25, pool:apply(square, { 5 }))
  end)

  it("does nothing to a call that is in time", function()
    local pool <close> = luapool.Pool(2)
    local result = pool:map(square, numbers(100), { deadline = 60 })
    assert.are.equal(100, #result)
  end)
end)

describe("retries", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(2), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("run a task again whose worker was lost", function()
    assert.are.equal(2, pool:apply(die_once, { path }, { retries = 1 }))
    assert.are.equal(2, gate.count(path))
  end)

  it("are none by default", function()
    errors.of("lost", pool.apply, pool, die_once, { path })
    assert.are.equal(1, gate.count(path))
  end)

  it("are counted", function()
    local function work()
      gate.mark(path)
      os.exit(1)
    end
    errors.of("lost", pool.apply, pool, work, {}, { retries = 2 })
    assert.are.equal(3, gate.count(path))
  end)

  it("run one item of a map again and no other", function()
    local function work(x)
      gate.mark(path, tostring(x))
      if x == 5 then
        local _, times = gate.read(path):gsub("5", "")
        if times == 1 then os.execute("kill -KILL $PPID") end
      end
      return x
    end
    local result = pool:map(work, numbers(9), { retries = 3 })
    assert.are.same(numbers(9), result)
    local digits = {}
    for digit in gate.read(path):gmatch "%d" do digits[#digits + 1] = digit end
    table.sort(digits)
    assert.are.equal("1234556789", table.concat(digits))
  end)

  it("do not run again what failed of itself", function()
    local function work()
      gate.mark(path)
      error("no")
    end
    errors.of("task", pool.apply, pool, work, {}, { retries = 5 })
    assert.are.equal(1, gate.count(path))
  end)

  it("do not run again what ran out of time", function()
    local function work()
      gate.mark(path)
      while true do end
    end
    errors.of("timeout", pool.apply, pool, work, {},
      { retries = 5, timeout = 0.2 })
    assert.are.equal(1, gate.count(path))
  end)

  it("do not run again what was cancelled", function()
    local function work()
      gate.mark(path)
      while true do end
    end
    local future = pool:apply_async(work, {}, { retries = 5 })
    gate.wait(path)
    assert.is_true(future:cancel())
    errors.of("cancelled", future.get, future)
    pool:apply(square, { 2 })
    assert.are.equal(1, gate.count(path))
  end)

  it("of the pool hold where a call says nothing", function()
    local own <close> = luapool.Pool { 1, retries = 1 }
    assert.are.equal(2, own:apply(die_once, { path }))
    errors.of("lost", own.apply, own, die_once, { gate.name() },
      { retries = 0 })
  end)
end)

describe("on_error", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(2) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("collect gives results and errors by their index", function()
    local function work(x)
      if x % 5 == 0 then error({ x = x }) end
      return x
    end
    local results, errs = pool:map(work, numbers(50), { on_error = "collect" })
    for i = 1, 50 do
      if i % 5 == 0 then
        assert.is_nil(results[i])
        assert.is_true(errors.is("task", errs[i]))
        assert.are.equal(i, errs[i].index)
        assert.are.equal(i, errs[i].value.x)
      else
        assert.are.equal(i, results[i])
        assert.is_nil(errs[i])
      end
    end
  end)

  it("collect gives no errors where there are none", function()
    local results, errs = pool:map(square, { 1, 2 }, { on_error = "collect" })
    assert.are.same({ 1, 4 }, results)
    assert.are.same({}, errs)
  end)

  it("collect takes the deaths of workers too", function()
    local function work(x)
      if x == 4 then os.exit(0) end
      return x
    end
    local results, errs = pool:map(work, numbers(8), { on_error = "collect" })
    assert.are.same({ lost = 1 }, kinds(errs))
    assert.are.equal(4, errs[4].index)
    assert.are.equal(8, results[8])
  end)

  it("raise is what happens by default", function()
    local function fail() error("x", 0) end
    local err = errors.of("task", pool.map, pool, fail, { 1 },
      { on_error = "raise" })
    assert.are.equal("x", err.value)
    assert.are.equal("x", errors.of("task", pool.map, pool, fail, { 1 }).value)
  end)
end)

describe("callbacks", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  local function fail(x) error(x) end

  it("run in the parent before the future is ready", function()
    local seen, ready
    local future
    future = pool:apply_async(square, { 3 }, {
      callback = function(v)
        seen = { v, leaks.pid() }
        ready = future:ready()
      end,
    })
    future:get()
    assert.are.same({ 9, leaks.pid() }, seen)
    assert.is_false(ready)
  end)

  it("have run when get, wait and ready say so", function()
    local waiters = {
      function(f) return f:wait() end,
      function(f) return f:get() end,
      function(f) return gate.eventually(function() return f:ready() end) end,
      function(f) return luapool.wait { f } end,
      function(f) return luapool.as_completed { f } () end,
    }
    for _, wait in ipairs(waiters) do
      local seen
      local future = pool:apply_async(square, { 3 },
        { callback = function(v) seen = v end })
      wait(future)
      assert.are.equal(9, seen)
    end
  end)

  it("get the list of a map", function()
    local seen
    local keep = { callback = function(v) seen = v end }
    local result = pool:map_async(square, { 1, 2 }, keep):get()
    assert.are.same({ 1, 4 }, seen)
    assert.is_true(rawequal(result, seen))
    pool:starmap_async(pass, { { 5 } }, keep):get()
    assert.are.same({ 5 }, seen)
  end)

  it("for errors get the error, and only one of them runs", function()
    local good, bad = 0, nil
    local opts = {
      callback = function() good = good + 1 end,
      error_callback = function(err) bad = err end,
    }
    local future = pool:apply_async(fail, { "x" }, opts)
    future:wait()
    assert.are.equal(0, good)
    assert.is_true(rawequal(future:exception(), bad))
    bad = nil
    pool:apply_async(square, { 1 }, opts):wait()
    assert.are.equal(1, good)
    assert.is_nil(bad)
    pool:map_async(fail, { "y" }, opts):wait()
    assert.are.equal(1, good)
    assert.is_true(errors.is("task", bad))
  end)

  it("for errors take lost workers and timeouts", function()
    local seen = {}
    local opts = {
      error_callback = function(err) seen[#seen + 1] = err.kind end,
    }
    pool:apply_async(die, {}, opts):wait()
    opts.timeout = 0.1
    pool:apply_async(gate.sleep, { 60 }, opts):wait()
    assert.are.same({ "lost", "timeout" }, seen)
  end)

  it("may submit tasks and wait for them", function()
    local inner, list
    pool:apply_async(square, { 2 }, {
      callback = function(v)
        inner = pool:apply_async(square, { v })
        list = pool:map(square, { v, v })
      end,
    }):wait()
    assert.are.equal(16, inner:get())
    assert.are.same({ 16, 16 }, list)
  end)

  it("may cancel tasks and end the pool", function()
    local own, futures = luapool.Pool(1), {}
    local function ending()
      futures[3]:cancel()
      own:terminate()
    end
    for i = 1, 4 do
      futures[i] = own:apply_async(i == 1 and square or gate.sleep, { i * 10 },
        { callback = ending })
    end
    assert.are.equal(100, futures[1]:get())
    errors.of("terminated", futures[2].get, futures[2])
    errors.of("cancelled", futures[3].get, futures[3])
    errors.of("terminated", futures[4].get, futures[4])
  end)

  it("that raise are reported and harm nothing", function()
    local result = script.run([[
      local pool <close> = luapool.Pool(1)
      local function bad() error("boom one") end
      local function worse() error({}) end
      local a = pool:apply_async(math.abs, {-3}, {callback = bad})
      local b = pool:apply_async(math.abs, {-4}, {callback = worse})
      local c = pool:apply_async(error, {"x"}, {error_callback = bad})
      print(a:get(), b:get(), c:exception().kind, pool:apply(math.abs, {-5}))
    ]])
    assert.are.equal(0, result.status)
    assert.are.equal("3\t4\ttask\t5\n", result.stdout)
    assert.are.equal(2, select(2, result.stderr:gsub("boom one", "")))
  end)
end)

describe("seed", function()
  leaks.guard(before_each, after_each)

  local function draw() return math.random(1 << 40) end
  local function draws()
    return { math.random(), math.random(10), math.random(0), math.random() }
  end

  -- Some calls on a pool of its own; all that they drew.
  local function run(opts, chunksize)
    local pool <close> = luapool.Pool(opts)
    local t = { pool:map(draws, numbers(12), chunksize) }
    t[2] = pool:starmap(draws, { {}, {}, {} }, chunksize)
    t[3] = { pool:apply(draws), pool:apply_async(draws):get() }
    t[4] = {}
    for i, v in pool:imap_unordered(draws, numbers(5), chunksize) do
      t[4][i] = v
    end
    t[5] = pool:map_async(draws, numbers(3), chunksize):get()
    return t
  end

  it("gives the same draws however the work is spread", function()
    local expected = run { 1, seed = 42 }
    for _, opts in ipairs {
      { 0, seed = 42 }, { 2, seed = 42 }, { 3, seed = 42 },
      { 2, seed = 42, start_method = "spawn" },
      { 1, seed = 42, maxtasksperchild = 2 },
    } do
      for _, chunksize in ipairs { 1, 5 } do
        assert.are.same(expected, run(opts, chunksize))
      end
    end
  end)

  it("gives other draws to other seeds, calls and items", function()
    local seen, n = {}, 0
    for _, seed in ipairs { 0, 1, 2, -1, math.maxinteger } do
      local pool <close> = luapool.Pool { 1, seed = seed }
      for _ = 1, 3 do
        for _, v in ipairs(pool:map(draw, numbers(10))) do
          assert.is_nil(seen[v])
          seen[v] = true
          n = n + 1
        end
      end
    end
    assert.are.equal(150, n)
  end)

  it("gives the same draws again to a task that is retried", function()
    local path = gate.name()
    local function work(x)
      local v = math.random(1 << 40)
      if x == 3 then
        gate.mark(path)
        if gate.count(path) == 1 then os.exit(1) end
      end
      return v
    end
    local function once(opts)
      local pool <close> = luapool.Pool { 2, seed = 7 }
      return pool:map(work, numbers(5), opts)
    end
    local first = once { retries = 1 }
    assert.are.equal(2, gate.count(path))
    assert.are.same(first, once {})
  end)

  it("gives first draws that look random over the items", function()
    local function first() return math.random() end
    local pool <close> = luapool.Pool { 2, seed = 1 }
    local t = pool:map(first, numbers(4000))
    local sum, product = 0, 0
    for i = 1, #t do sum = sum + t[i] end
    local mean = sum / #t
    for i = 2, #t do
      product = product + (t[i] - mean) * (t[i - 1] - mean)
    end
    assert.is_true(math.abs(mean - 0.5) < 0.03)
    assert.is_true(math.abs(product / #t * 12) < 0.08)
  end)

  it("of a pool in this process leaves the caller's generator", function()
    local pool <close> = luapool.Pool { 0, seed = 3 }
    math.randomseed(99)
    local expected = { math.random(), math.random() }
    math.randomseed(99)
    local got = { math.random() }
    pool:map(draw, numbers(5))
    pool:apply(draw)
    for _ in pool:imap(draw, { 1 }) do draw() end
    math.randomseed(99)
    got[1] = math.random()
    pool:map(draw, { 1, 2 })
    got[2] = math.random()
    assert.are.same(expected, got)
  end)

  it("is not needed for workers to differ", function()
    local pool <close> = luapool.Pool(3)
    local path = gate.name()
    local function meet()
      gate.meet(path, 3)
      return math.random(1 << 40)
    end
    local t = pool:map(meet, numbers(3), 1)
    assert.is_true(t[1] ~= t[2] and t[2] ~= t[3] and t[1] ~= t[3])
  end)

  it("is not needed for replacements to differ", function()
    local pool <close> = luapool.Pool { 1, maxtasksperchild = 1 }
    local seen = {}
    for _ = 1, 5 do
      local v = pool:apply(draw)
      assert.is_nil(seen[v])
      seen[v] = true
    end
  end)
end)

describe("maxtasksperchild", function()
  leaks.guard(before_each, after_each)

  for _, chunksize in ipairs { 1, 5 } do
    it("replaces a worker in time, chunks of " .. chunksize, function()
      local pool <close> = luapool.Pool { 1, maxtasksperchild = 2 }
      local pids = pool:map("spec.support.leaks.pid", { n = 10 }, chunksize)
      local count = {}
      for _, pid in ipairs(pids) do count[pid] = (count[pid] or 0) + 1 end
      assert.are.equal(5, leaks.size(count))
      for _, n in pairs(count) do assert.are.equal(2, n) end
    end)
  end

  it("loses nothing of a backlog", function()
    local pool <close> = luapool.Pool { 2, maxtasksperchild = 1 }
    local futures, big = {}, ("x"):rep(2 ^ 17)
    for i = 1, 60 do futures[i] = pool:apply_async(pass, { i, big }) end
    for i = 1, 60 do
      local n, s = futures[i]:get()
      assert.are.equal(i, n)
      assert.is_true(s == big)
    end
  end)

  it("does not count as a death", function()
    local pool <close> =
      luapool.Pool { 1, maxtasksperchild = 1, max_restarts = 0 }
    assert.are.equal(25, #pool:map(square, numbers(25)))
  end)

  it("keeps the number of the worker", function()
    local pool <close> = luapool.Pool { 1, maxtasksperchild = 1 }
    assert.are.same({ 1, 1, 1 }, pool:map(luapool.worker, { n = 3 }))
  end)
end)

describe("initializer", function()
  leaks.guard(before_each, after_each)

  -- Chunks from load have the globals for their _ENV, unlike this file.
  local get_mark = load "return rawget(_G, 'luapool_spec_mark')"

  for _, method in ipairs { "fork", "spawn" } do
    it("runs once in each worker before its tasks, " .. method, function()
      local path = gate.name()
      local function init(a, b)
        gate.mark(path)
        rawset(_G, "luapool_spec_mark", a .. b)
      end
      local pool <close> = luapool.Pool {
        2, initializer = init, initargs = { "x", "y" }, start_method = method,
      }
      local result = pool:map(get_mark, { n = 20 })
      for i = 1, 20 do assert.are.equal("xy", result[i]) end
      gate.wait(path, 2)
      pool:map(get_mark, { n = 20 })
      assert.are.equal(2, gate.count(path))
      assert.is_nil(get_mark())
    end)

    it("runs in replacements too, " .. method, function()
      local path = gate.name()
      local pool <close> = luapool.Pool {
        1, initializer = gate.mark, initargs = { path },
        start_method = method,
      }
      assert.are.equal(4, pool:apply(square, { 2 }))
      errors.of("lost", pool.apply, pool, die)
      assert.are.equal(4, pool:apply(square, { 2 }))
      assert.are.equal(2, gate.count(path))
    end)

    it("that raises is one init error, " .. method, function()
      local path = gate.name()
      local function init()
        gate.mark(path)
        error("no database")
      end
      local err = errors.of("init", function()
        local pool <close> = luapool.Pool {
          1, initializer = init, start_method = method,
        }
        pool:apply(square, { 2 })
      end)
      assert.is_truthy(err.message:find("no database", 1, true))
      assert.is_truthy(tostring(err):find("no database", 1, true))
      assert.is_true(gate.count(path) <= 2)
    end)

    it("that dies is one init error, " .. method, function()
      for _, how in ipairs { "kill", "exit" } do
        local path = gate.name()
        local function init()
          gate.mark(path)
          if how == "exit" then os.exit(0) end
          os.execute("kill -KILL $PPID")
        end
        errors.of("init", function()
          local pool <close> = luapool.Pool {
            1, initializer = init, start_method = method,
          }
          pool:apply(square, { 2 })
        end)
        assert.is_true(gate.count(path) <= 2)
      end
    end)
  end

  it("is inherited under fork, not encoded", function()
    local file <close> = assert(io.open(gate.name(), "w+"))
    local thread = coroutine.create(function() return "from the thread" end)
    local function init(f)
      rawset(_G, "luapool_spec_mark",
        io.type(f) .. select(2, coroutine.resume(thread)))
    end
    local pool <close> =
      luapool.Pool { 1, initializer = init, initargs = { file } }
    assert.are.equal("filefrom the thread", pool:apply(get_mark))
  end)

  it("that cannot travel is an encode error under spawn", function()
    local thread = coroutine.create(print)
    errors.of("encode", luapool.Pool, {
      1, initializer = function() return thread end, start_method = "spawn",
    })
    errors.of("encode", luapool.Pool, {
      1, initializer = print, initargs = { thread }, start_method = "spawn",
    })
  end)

  it("keeps nils among its arguments", function()
    local function init(...)
      rawset(_G, "luapool_spec_mark", select("#", ...))
    end
    local pool <close> =
      luapool.Pool { 1, initializer = init, initargs = { nil, nil, n = 2 } }
    assert.are.equal(2, pool:apply(get_mark))
  end)

  it("error is not retried and every pending task gets it", function()
    local path = gate.name()
    local function init()
      gate.mark(path)
      error("no way")
    end
    local kind = {}
    pcall(function()
      local pool <close> =
        luapool.Pool { 2, initializer = init, retries = 5 }
      local futures = {}
      for i = 1, 4 do futures[i] = pool:apply_async(square, { i }) end
      for i = 1, 4 do kind[i] = futures[i]:exception().kind end
    end)
    for _, k in ipairs(kind) do
      assert.is_true(k == "init" or k == "broken")
    end
    assert.is_true(gate.count(path) <= 4)
  end)
end)

describe("max_restarts", function()
  leaks.guard(before_each, after_each)

  it("breaks a pool whose every task kills its worker", function()
    local pool <close> = luapool.Pool { 1, max_restarts = 3 }
    local path, futures, count = gate.name(), {}, {}
    local function crash()
      gate.mark(path)
      os.exit(1)
    end
    for i = 1, 12 do futures[i] = pool:apply_async(crash) end
    for i = 1, 12 do
      local err = futures[i]:exception()
      count[err.kind] = (count[err.kind] or 0) + 1
    end
    assert.are.same({ lost = 4, broken = 8 }, count)
    assert.are.equal(4, gate.count(path))
    local err = errors.of("broken", pool.apply, pool, square, { 1 })
    assert.is_truthy(#err.message > 0)
  end)

  it("leaves no worker of a broken pool to be forked again", function()
    local before = leaks.children()
    local pool <close> = luapool.Pool { 2, max_restarts = 1 }
    pool:map(os.exit, { 1, 1, 1, 1 }, { on_error = "collect" })
    errors.of("broken", pool.apply, pool, square, { 1 })
    local now = leaks.children()
    pool:poll(0.05)
    for pid in pairs(leaks.children()) do assert.is_not_nil(now[pid]) end
    assert.is_true(leaks.size(now) <= leaks.size(before) + 2)
  end)

  it("counts only deaths in a row", function()
    local pool <close> = luapool.Pool { 1, max_restarts = 1 }
    for i = 1, 5 do
      errors.of("lost", pool.apply, pool, die)
      assert.are.equal(i * i, pool:apply(square, { i }))
    end
    local function work(x) if x % 2 == 0 then os.exit(1) end return x end
    local results, errs = pool:map(work, numbers(20),
      { on_error = "collect", chunksize = 1 })
    assert.are.same({ lost = 10 }, kinds(errs))
    assert.are.equal(19, results[19])
  end)

  it("is ten by default: some crashes among many do not break", function()
    local pool <close> = luapool.Pool(2)
    local function work(x)
      if x % 10 == 0 then os.exit(1) end
      return x
    end
    local results, errs = pool:map(work, numbers(200),
      { on_error = "collect" })
    assert.are.same({ lost = 20 }, kinds(errs))
    for i = 1, 200 do
      if i % 10 ~= 0 then assert.are.equal(i, results[i]) end
    end
  end)

  it("does not count kills by timeout, cancel and deadline", function()
    local pool <close> = luapool.Pool { 1, max_restarts = 0 }
    for _ = 1, 2 do
      errors.of("timeout", pool.apply, pool, gate.sleep, { 60 },
        { timeout = 0.05 })
      errors.of("timeout", pool.apply, pool, gate.sleep, { 60 },
        { deadline = 0.05 })
      local future = pool:apply_async(gate.sleep, { 60 })
      gate.eventually(function() return future:running() end)
      assert.is_true(future:cancel())
    end
    assert.are.equal(9, pool:apply(square, { 3 }))
  end)
end)

describe("progress", function()
  leaks.guard(before_each, after_each)

  it("is accepted in every form", function()
    local pool <close> = luapool.Pool(1)
    for _, progress in ipairs { true, "label", function() end, false } do
      assert.are.same({ 1, 4 },
        pool:map(square, { 1, 2 }, { progress = progress }))
    end
  end)

  it("prints nothing where stderr is no terminal", function()
    assert.are.equal("1\n", script.output([[
      local pool <close> = luapool.Pool(1)
      pool:map(math.abs, {1, -2}, {progress = true})
      for i in pool:imap(math.abs, {-1}, {progress = "label"}) do print(i) end
    ]]))
  end)
end)
