-- SPDX-License-Identifier: MIT
-- The pool itself: how it is made, what it says of itself, calls of one task,
-- pools in this very process, and progress from a foreign event loop.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

local function double(x) return 2 * x end
local function pid_of() return leaks.pid() end

-- A task that waits for n - 1 others, each in a worker of its own.
local function number_at_meeting(path, n)
  gate.meet(path, n)
  return luapool.worker()
end

local function cpus()
  local pipe <close> = assert(io.popen("nproc"))
  return pipe:read("n")
end

describe("the module", function()
  leaks.guard(before_each, after_each)

  it("has the functions of the contract", function()
    for _, name in ipairs { "Pool", "map", "starmap", "imap", "imap_unordered",
      "apply", "wait", "as_completed", "cpu_count", "worker", "encode",
      "decode", "register" } do
      assert.is_function(luapool[name], name)
    end
    assert.is_table(luapool.Error)
  end)

  it("counts at least one CPU and none that it may not use", function()
    local n = luapool.cpu_count()
    assert.are.equal("integer", math.type(n))
    assert.is_true(n >= 1 and n <= cpus())
  end)

  it("counts the CPUs of a Lambda function by its memory", function()
    for megabytes, expected in pairs { [128] = 1, [1769] = 1, [1770] = 2 } do
      local out = script.output("print(luapool.cpu_count())", {
        env = { AWS_LAMBDA_FUNCTION_MEMORY_SIZE = megabytes },
      })
      local limit = math.min(expected, luapool.cpu_count())
      assert.are.equal(limit, math.tointeger(out), megabytes)
    end
  end)

  it("has no worker number in the parent", function()
    assert.is_nil(luapool.worker())
  end)

  it("starts nothing by being loaded", function()
    assert.are.equal("0\n", script.output([[
      print(require "spec.support.leaks".size(
        require "spec.support.leaks".children()))
    ]]))
  end)
end)

describe("making a pool", function()
  leaks.guard(before_each, after_each)

  it("forks its workers here and now", function()
    local before = leaks.children()
    local pool <close> = luapool.Pool(3)
    local now, new = leaks.children(), 0
    for pid in pairs(now) do if not before[pid] then new = new + 1 end end
    assert.are.equal(3, #pool)
    assert.are.equal(3, new)
  end)

  it("takes the number of workers in three ways", function()
    for _, how in ipairs { 2, { processes = 2 }, { 2 } } do
      local pool <close> = luapool.Pool(how)
      assert.are.equal(2, #pool)
    end
  end)

  it("has one worker per usable CPU by default", function()
    for _, pool in ipairs { luapool.Pool(), luapool.Pool {} } do
      local closing <close> = pool
      assert.are.equal(luapool.cpu_count(), #closing)
    end
  end)

  it("makes smaller default pools inside a worker", function()
    local function default_size()
      local inner <close> = luapool.Pool()
      return #inner
    end
    local n = luapool.cpu_count()
    for size = 1, 2 do
      local pool <close> = luapool.Pool(size)
      assert.are.equal(math.max(1, n // size), pool:apply(default_size))
    end
  end)

  it("names its state and size as text", function()
    local pool <close> = luapool.Pool(2)
    local open = tostring(pool)
    assert.is_truthy(open:find("2", 1, true))
    pool:close()
    local closed = tostring(pool)
    assert.is_truthy(closed:find("closed", 1, true))
    assert.are_not.equal(open, closed)
  end)

  it("gives pools that differ", function()
    local a <close> = luapool.Pool(1)
    local b <close> = luapool.Pool(1)
    assert.are_not.equal(a:apply(pid_of), b:apply(pid_of))
  end)
end)

describe("wrong options of a pool", function()
  leaks.guard(before_each, after_each)

  local nan = 0 / 0
  local wrong = {
    processes = { "2", -1, 1.5, {}, true, nan, math.huge },
    initializer = { 42, true },
    initargs = { 42, "x" },
    maxtasksperchild = { 0, -1, 1.5, "3", {} },
    start_method = { "frok", 42, true },
    timeout = { "1", -1, nan, {} },
    retries = { -1, 1.5, "1", {} },
    seed = { 1.5, "1", {} },
    max_restarts = { -1, 1.5, "1", {} },
  }
  for option, values in pairs(wrong) do
    it("are errors naming it: " .. option, function()
      for _, value in ipairs(values) do
        local opts = { processes = 1 }
        opts[option] = value
        errors.misuse_naming(option, function() luapool.Pool(opts) end)
      end
    end)
  end

  it("are errors naming it where the name is not known", function()
    for _, name in ipairs { "proceses", "Processes", "callback" } do
      local opts = { processes = 1, [name] = 1 }
      errors.misuse_naming(name, function() luapool.Pool(opts) end)
    end
    errors.misuse_naming("2", function() luapool.Pool { 1, 2 } end)
  end)

  it("are errors as an argument too", function()
    for _, value in ipairs { "2", true, -1, 1.5, print } do
      errors.misuse_naming("bad argument #1 to 'Pool'",
        function() luapool.Pool(value) end)
    end
  end)
end)

describe("apply", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(2) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  local function all(...) return select("#", ...), ... end

  it("returns what the function returns", function()
    assert.are.equal(42, pool:apply(double, { 21 }))
  end)

  it("runs in a worker", function()
    local pid = pool:apply(pid_of)
    assert.are_not.equal(leaks.pid(), pid)
    assert.are.equal("table", type(pool:stats()))
    assert.is_not_nil(leaks.children()[pid])
  end)

  it("passes no argument by default", function()
    assert.are.equal(0, (pool:apply(all)))
    assert.are.equal(0, (pool:apply(all, nil, {})))
  end)

  it("keeps nils among the arguments and the results", function()
    local t = table.pack(pool:apply(all, { nil, 2, nil, n = 3 }))
    assert.are.same({ 3, nil, 2, nil, n = 4 }, t)
    assert.are.equal(3, (pool:apply(all, { 1, 2, 3 })))
  end)

  it("returns nothing where the function does", function()
    local function nothing() end
    assert.are.equal(0, select("#", pool:apply(nothing)))
    local function three() return nil, nil, nil end
    assert.are.equal(3, select("#", pool:apply(three)))
  end)

  it("returns as many values as Lua can unpack", function()
    local function count(n) return table.unpack({}, 1, n) end
    assert.are.equal(5000, select("#", pool:apply(count, { 5000 })))
    local many = { n = 5000, [5000] = 1 }
    assert.are.equal(5000, (pool:apply(all, many)))
  end)

  it("calls a callable table", function()
    local adder = setmetatable({ by = 5 }, {
      __call = function(self, x) return self.by + x end,
    })
    assert.are.equal(12, pool:apply(adder, { 7 }))
  end)

  it("calls a function by its name, split at the last dot", function()
    assert.are.equal("ABC", pool:apply("string.upper", { "abc" }))
    assert.are.equal(3, pool:apply("spec.support.leaks.size", { { 1, 2, 3 } }))
  end)

  it("names the name that does not exist", function()
    for _, name in ipairs { "string.nosuch", "nosuchmodule.f", "upper" } do
      local ok, err = pcall(pool.apply, pool, name, { "x" })
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(name:match("%a+$"), 1, true), name)
    end
    assert.are.equal(2, pool:apply(double, { 1 }))
  end)

  it("copies the arguments at the call", function()
    local args = { { "before" } }
    local function first(t) return t[1] end
    local future = pool:apply_async(first, args)
    args[1][1] = "after"
    args[1] = nil
    assert.are.equal("before", future:get())
  end)

  it("leaves the caller's tables alone", function()
    local function spoil(t)
      t.x = 2
      return t
    end
    local t = { x = 1 }
    local copy = pool:apply(spoil, { t })
    assert.are.equal(1, t.x)
    assert.are.equal(2, copy.x)
  end)

  it("does not bring changed upvalues back", function()
    local count = 0
    local function increment()
      count = count + 1
      return count
    end
    assert.are.equal(1, pool:apply(increment))
    assert.are.equal(0, count)
  end)

  it("raises what the function raised as an error of kind task", function()
    local function fail() error({ code = 7 }) end
    local err = errors.of("task", pool.apply, pool, fail)
    assert.are.equal(7, err.value.code)
  end)

  it("works inside a coroutine", function()
    local co = coroutine.wrap(function() return pool:apply(double, { 4 }) end)
    assert.are.equal(8, co())
  end)

  it("carries a megabyte each way, many times", function()
    local function echo(s) return s end
    local big = ("x"):rep(2 ^ 20)
    local futures = {}
    for i = 1, 20 do futures[i] = pool:apply_async(echo, { big }) end
    for i = 1, 20 do assert.is_true(futures[i]:get() == big) end
  end)

  it("runs its tasks at the same time", function()
    local path = gate.name()
    local a = pool:apply_async(number_at_meeting, { path, 2 })
    local b = pool:apply_async(number_at_meeting, { path, 2 })
    assert.are.equal(3, a:get() + b:get())
  end)
end)

describe("the number of a worker", function()
  leaks.guard(before_each, after_each)

  local function numbers(pool)
    local path, futures, found = gate.name(), {}, {}
    for i = 1, #pool do
      futures[i] = pool:apply_async(number_at_meeting, { path, #pool })
    end
    for i = 1, #pool do found[i] = futures[i]:get() end
    table.sort(found)
    return found
  end

  for _, method in ipairs { "fork", "spawn" } do
    it("counts from 1 to the size of the pool under " .. method, function()
      local pool <close> = luapool.Pool { 3, start_method = method }
      assert.are.same({ 1, 2, 3 }, numbers(pool))
    end)
  end

  it("is taken over by a replacement", function()
    local pool <close> = luapool.Pool(3)
    local function die() os.execute("kill -KILL $PPID") end
    errors.of("lost", pool.apply, pool, die)
    assert.are.same({ 1, 2, 3 }, numbers(pool))
  end)
end)

describe("the figures of a pool", function()
  leaks.guard(before_each, after_each)

  it("are one table a worker and totals", function()
    local pool <close> = luapool.Pool(2)
    pool:map(double, { 1, 2, 3, 4, 5, 6, 7 })
    local stats = pool:stats()
    assert.are.equal(2, #stats)
    local tasks, received, sent = 0, 0, 0
    for _, worker in ipairs(stats) do
      assert.is_not_nil(leaks.children()[worker.pid])
      assert.are.equal("number", type(worker.busy))
      assert.are.equal(0, worker.restarts)
      tasks = tasks + worker.tasks
      received = received + worker.bytes_in
      sent = sent + worker.bytes_out
    end
    assert.are.equal(7, tasks)
    assert.are.equal(7, stats.tasks)
    assert.are.equal(received, stats.bytes_in)
    assert.are.equal(sent, stats.bytes_out)
    assert.are.equal(0, stats.restarts)
    assert.is_true(received > 0 and sent > 0)
  end)

  it("count the seconds spent in tasks", function()
    local pool <close> = luapool.Pool(1)
    pool:apply("spec.support.gate.sleep", { 0.1 })
    local stats = pool:stats()
    assert.is_true(stats[1].busy >= 0.09 and stats[1].busy < 20)
    assert.are.equal(stats[1].busy, stats.busy)
  end)

  it("count the deaths of workers", function()
    local pool <close> = luapool.Pool(1)
    local function die() os.exit(3) end
    errors.of("lost", pool.apply, pool, die)
    pool:apply(double, { 1 })
    local stats = pool:stats()
    assert.are.equal(1, stats[1].restarts)
    assert.are.equal(1, stats.restarts)
  end)
end)

describe("a pool of no process", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(0) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("has no worker and forks none", function()
    assert.are.equal(0, #pool)
    assert.are.equal(leaks.pid(), pool:apply(pid_of))
    assert.is_nil(pool:apply(luapool.worker))
    assert.are.equal(0, #luapool.Pool { processes = 0 })
  end)

  it("calls the function itself", function()
    local count = 0
    local function increment(by)
      count = count + by
      return count
    end
    assert.are.same({ 1, 3, 6 }, pool:map(increment, { 1, 2, 3 }))
    assert.are.equal(6, count)
  end)

  it("still copies arguments and results", function()
    local kept
    local function keep(t)
      kept = t
      return t
    end
    local t = { 1 }
    local result = pool:apply(keep, { t })
    assert.are.same(t, result)
    assert.is_false(rawequal(t, kept))
    assert.is_false(rawequal(kept, result))
  end)

  it("still refuses what cannot travel", function()
    local function file() return io.stdout end
    errors.of("encode", pool.apply, pool, double, { io.stdout })
    errors.of("encode", pool.apply, pool, file)
    local items = { 1, 2, io.stdin }
    local err = errors.of("encode", pool.map, pool, double, items)
    assert.are.equal(3, err.index)
  end)

  it("ignores the timeout", function()
    local function busy()
      gate.sleep(0.05)
      return "done"
    end
    assert.are.equal("done", pool:apply(busy, {}, { timeout = 0.01 }))
  end)

  it("raises the errors of tasks like any pool", function()
    local function fail(x) error({ x = x }) end
    local err = errors.of("task", pool.map, pool, fail, { 10, 20 })
    assert.are.equal(1, err.index)
    assert.are.equal(10, err.value.x)
    assert.is_truthy(err.traceback:find("pool_spec.lua", 1, true))
  end)

  it("has every call", function()
    local function add(a, b) return a + b end
    assert.are.same({ 3, 7 }, pool:starmap(add, { { 1, 2 }, { 3, 4 } }))
    assert.are.equal(5, pool:apply_async(add, { 2, 3 }):get())
    assert.are.same({ 2, 4 }, pool:map_async(double, { 1, 2 }):get())
    assert.are.same({ 3 }, pool:starmap_async(add, { { 1, 2 } }):get())
    for _, name in ipairs { "imap", "imap_unordered" } do
      local sum = 0
      for i, v in pool[name](pool, double, { 5, 6, 7 }) do
        sum = sum + i * v
      end
      assert.are.equal(10 + 24 + 42, sum)
    end
    local results, errs = pool:map(add, { 1 }, { on_error = "collect" })
    assert.is_nil(results[1])
    assert.is_true(errors.is("task", errs[1]))
    pool:close()
    pool:join()
    errors.of("closed", pool.apply, pool, double, { 1 })
  end)

  it("runs callbacks", function()
    local seen = {}
    local function note(v) seen[#seen + 1] = v end
    pool:apply_async(double, { 4 }, { callback = note }):wait()
    assert.are.same({ 8 }, seen)
  end)

  it("has no figures but totals", function()
    pool:map(double, { 1, 2 })
    local stats = pool:stats()
    assert.are.equal(0, #stats)
    assert.are.equal(2, stats.tasks)
  end)
end)

describe("progress from a foreign event loop", function()
  leaks.guard(before_each, after_each)

  it("is made by poll", function()
    local pool <close> = luapool.Pool(2)
    local got
    pool:apply_async(double, { 3 }, { callback = function(v) got = v end })
    gate.eventually(function()
      pool:poll(0.05)
      return got
    end)
    assert.are.equal(6, got)
  end)

  it("is made by poll with no time too", function()
    local pool <close> = luapool.Pool(1)
    local got
    local function keep(v) got = v end
    for _, timeout in ipairs { 0, -1 } do
      got = nil
      pool:apply_async(double, { 3 }, { callback = keep })
      gate.eventually(function()
        pool:poll(timeout)
        return got
      end)
    end
  end)

  it("has a descriptor to watch, open as long as the pool", function()
    local pool <close> = luapool.Pool(1)
    local fd = pool:fileno()
    assert.are.equal("integer", math.type(fd))
    assert.is_not_nil(leaks.fds()[fd])
  end)

  it("does not wait in poll where there is nothing to wait for", function()
    local pool <close> = luapool.Pool(1)
    pool:poll(0)
    pool:poll(0.01)
    assert.are.equal(2, pool:apply(double, { 1 }))
  end)
end)
