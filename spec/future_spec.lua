-- SPDX-License-Identifier: MIT
-- Futures: one handle with the names of both of Python's, and the functions
-- over futures of any pools.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

local function square(x) return x * x end
local function pass(...) return ... end
local function fail(x) error(x) end

-- Tasks that last until a gate is opened, and say that they have started.
local function held(path)
  gate.mark(path .. ".started")
  gate.wait(path)
  return "held"
end

local function started(path)
  gate.wait(path .. ".started")
  os.remove(path .. ".started")
end

describe("a future", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(2), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    os.remove(path .. ".started")
    pool = nil
  end)

  for _, get in ipairs { "get", "result" } do
    it("gives its value by " .. get .. ", and again", function()
      local future = pool:apply_async(pass, { { 1 } })
      local value = future[get](future)
      assert.are.same({ 1 }, value)
      assert.is_true(rawequal(value, future[get](future)))
      assert.is_true(rawequal(value, future:get(0)))
    end)

    it("raises its error by " .. get .. ", and again", function()
      local future = pool:apply_async(fail, { { 1 } })
      local err = errors.of("task", future[get], future)
      assert.is_true(rawequal(err, errors.of("task", future[get], future)))
    end)

    it("times out in " .. get .. " and goes on", function()
      local future = pool:apply_async(held, { path })
      for _, timeout in ipairs { 0.05, 0, -1 } do
        errors.of("timeout", future[get], future, timeout)
      end
      gate.mark(path)
      assert.are.equal("held", future[get](future, 20))
    end)
  end

  it("gives all values of a call", function()
    local future = pool:apply_async(pass, { nil, 2, nil, n = 3 })
    for _ = 1, 2 do
      assert.are.same({ n = 3, nil, 2, nil }, table.pack(future:get()))
    end
    local nothing = pool:apply_async(pass)
    assert.are.equal(0, select("#", nothing:get()))
  end)

  it("says whether it is done in time by wait", function()
    local future = pool:apply_async(held, { path })
    for _, timeout in ipairs { 0.02, 0, -1 } do
      assert.is_false(future:wait(timeout))
    end
    gate.mark(path)
    assert.is_true(future:wait())
    assert.is_true(future:wait(0))
    assert.is_true(pool:apply_async(fail, { 1 }):wait(20))
  end)

  it("makes progress by looking once", function()
    local looks = {
      function(future) return future:wait(0) end,
      function(future) return future:wait(-1) end,
      function(future) return pcall(future.get, future, 0) end,
      function(future) return future:ready() end,
      function(future) return future:done() end,
    }
    for _, look in ipairs(looks) do
      local future = pool:apply_async(square, { 3 })
      gate.eventually(function() return look(future) end)
      assert.are.equal(9, future:get())
    end
  end)

  it("is ready, done and successful once its value is there", function()
    local future = pool:apply_async(held, { path })
    assert.is_false(future:ready())
    assert.is_false(future:done())
    assert.is_false(pcall(future.successful, future))
    gate.mark(path)
    future:wait()
    assert.is_true(future:ready())
    assert.is_true(future:done())
    assert.is_true(future:successful())
  end)

  it("is done but not successful after an error", function()
    local future = pool:apply_async(fail, { "x" })
    future:wait()
    assert.is_true(future:ready())
    assert.is_true(future:done())
    assert.is_false(future:successful())
  end)

  it("says whether it is running", function()
    local futures = {}
    for i = 1, 4 do futures[i] = pool:apply_async(held, { path }) end
    gate.eventually(function()
      return futures[1]:running() and futures[2]:running()
    end)
    assert.is_false(futures[3]:running() or futures[4]:running())
    gate.mark(path)
    for i = 1, 4 do
      futures[i]:wait()
      assert.is_false(futures[i]:running())
    end
  end)

  it("gives its exception, nil where there is none", function()
    assert.is_nil(pool:apply_async(square, { 2 }):exception())
    local future = pool:apply_async(fail, { { code = 3 } })
    local err = future:exception()
    assert.is_true(errors.is("task", err))
    assert.are.equal(3, err.value.code)
    assert.is_true(rawequal(err, future:exception()))
    assert.is_true(rawequal(err, errors.of("task", future.get, future)))
  end)

  it("does not wait for the task behind it", function()
    local own <close> = luapool.Pool(1)
    local front, futures = gate.name(), {}
    own:apply_async(gate.wait, { front })
    for i = 1, 3 do futures[i] = own:apply_async(square, { i }) end
    local behind = own:apply_async(held, { path })
    own:poll(0)
    gate.mark(front)
    for i = 1, 3 do assert.are.equal(i * i, futures[i]:get()) end
    assert.is_false(behind:ready())
    gate.mark(path)
    assert.are.equal("held", behind:get())
  end)

  it("times out in exception", function()
    local future = pool:apply_async(held, { path })
    errors.of("timeout", future.exception, future, 0.02)
    errors.of("timeout", future.exception, future, 0)
    gate.mark(path)
    assert.is_nil(future:exception(20))
  end)

  it("keeps its value after its pool is gone", function()
    local future
    do
      local own <close> = luapool.Pool(1)
      future = own:apply_async(square, { 5 })
    end
    assert.is_true(future:ready())
    assert.are.equal(25, future:get())
  end)

  it("keeps its pool alive", function()
    local function make() return luapool.Pool(1):apply_async(held, { path }) end
    local future = make()
    collectgarbage()
    collectgarbage()
    gate.mark(path)
    assert.are.equal("held", future:get())
  end)
end)

describe("cancelling", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(1), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    os.remove(path .. ".started")
    pool = nil
  end)

  it("keeps a task that has not started from running", function()
    local ran = gate.name()
    local first = pool:apply_async(held, { path })
    local second = pool:apply_async(gate.mark, { ran })
    local third = pool:apply_async(square, { 3 })
    started(path)
    assert.is_true(second:cancel())
    assert.is_true(second:cancelled())
    assert.is_true(second:done())
    assert.is_false(second:running())
    gate.mark(path)
    assert.are.equal("held", first:get())
    assert.are.equal(9, third:get())
    errors.of("cancelled", second.get, second)
    errors.of("cancelled", second.exception, second)
    assert.are.equal(0, gate.count(ran))
  end)

  it("kills a running task and loses no other", function()
    local first = pool:apply_async(held, { path })
    local second = pool:apply_async(square, { 4 })
    started(path)
    assert.is_true(first:cancel())
    assert.is_true(first:cancelled())
    errors.of("cancelled", first.get, first)
    assert.are.equal(16, second:get())
    assert.are.equal(1, #pool)
    assert.are.equal(25, pool:apply(square, { 5 }))
  end)

  it("is too late for a task that is done", function()
    local good = pool:apply_async(square, { 2 })
    local bad = pool:apply_async(fail, { "x" })
    good:wait()
    bad:wait()
    for _, future in ipairs { good, bad } do
      assert.is_false(future:cancel())
      assert.is_false(future:cancelled())
    end
    assert.are.equal(4, good:get())
  end)

  it("is true again for a task that was cancelled", function()
    local future = pool:apply_async(held, { path })
    assert.is_true(future:cancel())
    assert.is_true(future:cancel())
  end)

  it("is not said of a pending task", function()
    local future = pool:apply_async(held, { path })
    assert.is_false(future:cancelled())
    gate.mark(path)
    future:wait()
    assert.is_false(future:cancelled())
  end)

  it("drops all of a map", function()
    local ran = gate.name()
    local function work(x)
      gate.mark(ran)
      if x == 1 then held(path) end
    end
    local future = pool:map_async(work, { 1, 2, 3, 4, 5 }, 1)
    started(path)
    assert.is_true(future:cancel())
    errors.of("cancelled", future.get, future)
    assert.are.equal(9, pool:apply(square, { 3 }))
    assert.are.equal(1, gate.count(ran))
  end)

  it("racing with completion never loses the next task", function()
    for i = 1, 300 do
      local future = pool:apply_async(square, { i })
      local following = pool:apply_async(square, { i + 1 })
      if i % 3 == 0 then future:wait(0) end
      if future:cancel() then
        assert.is_true(future:cancelled())
      else
        assert.are.equal(i * i, future:get())
      end
      assert.are.equal((i + 1) ^ 2, following:get())
    end
  end)
end)

describe("a callback added to a future", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("gets the future, in the order of adding", function()
    local future = pool:apply_async(square, { 3 })
    local seen = {}
    for i = 1, 3 do
      future:add_done_callback(function(f)
        seen[#seen + 1] = i
        assert.is_true(rawequal(f, future))
        assert.are.equal(9, f:get())
      end)
    end
    future:get()
    gate.eventually(function()
      pool:poll(0)
      return #seen == 3
    end)
    assert.are.same({ 1, 2, 3 }, seen)
  end)

  it("is called at once where the future is done", function()
    local future = pool:apply_async(square, { 3 })
    future:wait()
    local seen
    future:add_done_callback(function(f) seen = f end)
    assert.is_true(rawequal(seen, future))
  end)

  it("is called for errors and cancelled tasks too", function()
    local seen = 0
    local function count() seen = seen + 1 end
    local bad = pool:apply_async(fail, { 1 })
    bad:add_done_callback(count)
    bad:wait()
    local cancelled = pool:apply_async("spec.support.gate.sleep", { 60 })
    cancelled:add_done_callback(count)
    cancelled:cancel()
    gate.eventually(function()
      pool:poll(0)
      return seen == 2
    end)
  end)

  it("may submit tasks", function()
    local inner
    local future = pool:apply_async(square, { 2 })
    future:add_done_callback(function(f)
      inner = pool:apply_async(square, { f:get() })
    end)
    future:wait()
    gate.eventually(function()
      pool:poll(0)
      return inner
    end)
    assert.are.equal(16, inner:get())
  end)

  it("that raises is reported and harms nothing", function()
    local result = script.run([[
      local pool <close> = luapool.Pool(1)
      local future = pool:apply_async(math.abs, {-3})
      future:add_done_callback(function() error("boom one") end)
      future:add_done_callback(function() print("second") end)
      print(future:get())
      future:add_done_callback(function() error("boom two") end)
      print(pool:apply(math.abs, {-4}))
    ]])
    assert.are.equal(0, result.status)
    local lines = {}
    for line in result.stdout:gmatch "%S+" do lines[#lines + 1] = line end
    table.sort(lines)
    assert.are.same({ "3", "4", "second" }, lines)
    assert.is_truthy(result.stderr:find("boom one", 1, true))
    assert.is_truthy(result.stderr:find("boom two", 1, true))
  end)
end)

describe("wait over futures", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(2), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    os.remove(path .. ".started")
    pool = nil
  end)

  -- Lists as sets of their places among the futures.
  local function places(futures, list)
    local found = {}
    for _, f in ipairs(list) do
      for i, future in ipairs(futures) do
        if rawequal(f, future) then found[#found + 1] = i end
      end
    end
    table.sort(found)
    return found
  end

  it("waits for all by default", function()
    local futures = {}
    for i = 1, 20 do futures[i] = pool:apply_async(square, { i }) end
    local done, not_done = luapool.wait(futures)
    assert.are.equal(20, #done)
    assert.are.equal(20, #places(futures, done))
    assert.are.same({}, not_done)
    done = luapool.wait(futures, { return_when = "ALL_COMPLETED" })
    assert.are.equal(20, #done)
  end)

  it("returns at the first one done", function()
    local futures = {
      pool:apply_async(held, { path }), pool:apply_async(square, { 2 }),
    }
    local done, not_done =
      luapool.wait(futures, { return_when = "FIRST_COMPLETED" })
    assert.are.same({ 2 }, places(futures, done))
    assert.are.same({ 1 }, places(futures, not_done))
    gate.mark(path)
  end)

  it("returns at the first error", function()
    local futures = {
      pool:apply_async(held, { path }), pool:apply_async(square, { 2 }),
      pool:apply_async(fail, { 1 }),
    }
    local done, not_done =
      luapool.wait(futures, { return_when = "FIRST_EXCEPTION" })
    assert.are.same({ 2, 3 }, places(futures, done))
    assert.are.same({ 1 }, places(futures, not_done))
    gate.mark(path)
  end)

  it("waits for all where no error comes", function()
    local futures = {
      pool:apply_async(square, { 1 }), pool:apply_async(square, { 2 }),
    }
    local done = luapool.wait(futures, { return_when = "FIRST_EXCEPTION" })
    assert.are.equal(2, #done)
  end)

  it("gives up after its timeout", function()
    local futures = {
      pool:apply_async(held, { path }), pool:apply_async(held, { path }),
    }
    for _, timeout in ipairs { 0.05, 0, -1 } do
      local done, not_done = luapool.wait(futures, { timeout = timeout })
      assert.are.same({}, done)
      assert.are.same({ 1, 2 }, places(futures, not_done))
    end
    gate.mark(path)
    assert.are.equal(2, #luapool.wait(futures, { timeout = 20 }))
  end)

  it("takes futures of several pools", function()
    local other <close>, here = luapool.Pool(1), luapool.Pool(0)
    local futures = {
      pool:apply_async(square, { 1 }), other:apply_async(square, { 2 }),
      here:apply_async(square, { 3 }), other:map_async(square, { 4 }),
    }
    local done, not_done = luapool.wait(futures)
    assert.are.same({ 1, 2, 3, 4 }, places(futures, done))
    assert.are.same({}, not_done)
  end)

  it("takes a future given twice as one", function()
    local future = pool:apply_async(held, { path })
    assert.are.same({}, (luapool.wait({ future, future }, { timeout = 0 })))
    gate.mark(path)
    local done, not_done = luapool.wait({ future, future }, { timeout = 20 })
    assert.is_true(#done >= 1)
    assert.are.same({}, not_done)
  end)

  it("takes no futures", function()
    local done, not_done = luapool.wait {}
    assert.are.same({}, done)
    assert.are.same({}, not_done)
  end)

  it("refuses what it does not know", function()
    errors.misuse_naming("return_when",
      function() luapool.wait({}, { return_when = "SOMETIMES" }) end)
    errors.misuse_naming("timout",
      function() luapool.wait({}, { timout = 1 }) end)
    errors.misuse_naming("timeout",
      function() luapool.wait({}, { timeout = "1" }) end)
    errors.misuse_naming("bad argument #1 to 'wait'",
      function() luapool.wait(42) end)
  end)
end)

describe("as_completed", function()
  leaks.guard(before_each, after_each)
  local pool, path
  before_each(function()
    pool, path = luapool.Pool(2), gate.name()
  end)
  leaks.finish(function()
    pool:terminate()
    os.remove(path .. ".started")
    pool = nil
  end)

  it("gives each future once, in the order of completion", function()
    local futures = { pool:apply_async(held, { path }) }
    for i = 2, 10 do futures[i] = pool:apply_async(square, { i }) end
    local seen, last = 0, nil
    for future in luapool.as_completed(futures) do
      assert.is_true(future:ready())
      seen, last = seen + 1, future
      if seen == 9 then gate.mark(path) end
    end
    assert.are.equal(10, seen)
    assert.is_true(rawequal(futures[1], last))
  end)

  it("gives a future that is there twice once", function()
    local future, n = pool:apply_async(held, { path }), 0
    local following = luapool.as_completed({ future, future }, 20)
    gate.mark(path)
    for _ in following do n = n + 1 end
    assert.are.equal(1, n)
    for _ in luapool.as_completed { future, future } do n = n + 1 end
    assert.are.equal(2, n)
  end)

  it("gives failed ones too, and those long done", function()
    local futures = {
      pool:apply_async(fail, { 1 }), pool:apply_async(square, { 2 }),
    }
    luapool.wait(futures)
    local seen = 0
    for future in luapool.as_completed(futures) do
      future:exception()
      seen = seen + 1
    end
    assert.are.equal(2, seen)
  end)

  it("takes futures of several pools", function()
    local other <close> = luapool.Pool(1)
    local futures, sum = {}, 0
    for i = 1, 10 do
      local from = i % 2 == 0 and pool or other
      futures[i] = from:apply_async(square, { i })
    end
    for future in luapool.as_completed(futures) do sum = sum + future:get() end
    assert.are.equal(385, sum)
  end)

  it("raises at its timeout", function()
    local futures = {
      pool:apply_async(square, { 2 }), pool:apply_async(held, { path }),
    }
    local seen = {}
    errors.of("timeout", function()
      for future in luapool.as_completed(futures, 0.3) do
        seen[#seen + 1] = future
      end
    end)
    assert.are.equal(1, #seen)
    assert.are.equal(4, seen[1]:get())
    gate.mark(path)
    assert.are.equal("held", futures[2]:get())
  end)

  it("gives nothing of no futures", function()
    local n = 0
    for _ in luapool.as_completed {} do n = n + 1 end
    assert.are.equal(0, n)
  end)
end)

describe("an error nobody looked at", function()
  leaks.guard(before_each, after_each)

  local function reports(looking)
    local result = script.run([[
      local function bad() error("unseen trouble", 0) end
      do
        local pool <close> = luapool.Pool(1)
        local future = pool:apply_async(bad)
        luapool.wait({future})
        ]] .. looking .. [[
      end
      print("end")
    ]])
    assert.are.equal(0, result.status)
    assert.are.equal("end\n", result.stdout)
    return select(2, result.stderr:gsub("unseen trouble", ""))
  end

  it("is reported once on stderr when its pool ends", function()
    assert.are.equal(1, reports "")
  end)

  it("is reported where its future was collected before", function()
    assert.are.equal(1, reports "future = nil collectgarbage()")
  end)

  it("is not reported where it was looked at", function()
    assert.are.equal(0, reports "pcall(future.get, future)")
    assert.are.equal(0, reports "local err = future:exception()")
  end)
end)
