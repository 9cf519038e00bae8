-- SPDX-License-Identifier: MIT
-- map, starmap and their async forms: what a plain loop would give, in the
-- order of the items, from lists and iterators, whatever the chunks.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"

local function square(x) return x * x end

local function numbers(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

-- The plain loop that map stands for.
local function loop(f, items)
  local t = {}
  for i, item in ipairs(items) do t[i] = f(item) end
  return t
end

-- An iterator function over 1 .. n.
local function counter(n)
  local i = 0
  return function()
    i = i + 1
    if i <= n then return i end
  end
end

local function odd(x)
  if x % 2 == 1 then return x end
end

describe("map", function()
  leaks.guard(before_each, after_each)

  for _, size in ipairs { 0, 1, 3 } do
    for _, method in ipairs { "fork", "spawn" } do
      it(("equals the plain loop (%d workers, %s)"):format(size, method),
        function()
          local pool <close> = luapool.Pool { size, start_method = method }
          for _, n in ipairs { 0, 1, 2, 3, 10, 1000 } do
            local items = numbers(n)
            assert.are.same(loop(square, items), pool:map(square, items))
          end
        end)
    end
  end

  for _, chunksize in ipairs { 1, 2, 7, 1000 } do
    it("gives the same in chunks of " .. chunksize, function()
      local pool <close> = luapool.Pool(2)
      local items = numbers(100)
      local expected = loop(square, items)
      assert.are.same(expected, pool:map(square, items, chunksize))
      assert.are.same(expected,
        pool:map(square, items, { chunksize = chunksize }))
    end)
  end

  it("takes a hundred thousand items", function()
    local pool <close> = luapool.Pool(2)
    local result = pool:map(square, numbers(100000))
    assert.are.equal(100000, #result)
    for i = 1, 100000, 997 do assert.are.equal(i * i, result[i]) end
  end)
end)

describe("map on a pool of two", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(2) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("keeps only the first value of each call", function()
    local function two(x) return x, x + 1 end
    assert.are.same({ 1, 2 }, pool:map(two, { 1, 2 }))
  end)

  it("has n where a result is nil", function()
    local result = pool:map(odd, { 1, 2, 3, 4 })
    assert.are.same({ 1, nil, 3, nil, n = 4 }, result)
    local function nothing() end
    assert.are.same({ n = 3 }, pool:map(nothing, { 1, 2, 3 }))
  end)

  it("has no n where no result is nil", function()
    assert.is_nil(pool:map(odd, { 1, 3 }).n)
    assert.is_nil(pool:map(odd, {}).n)
    local function no() return false end
    assert.are.same({ false, false }, pool:map(no, { 1, 2 }))
  end)

  it("gives an empty list for no items", function()
    assert.is_nil(next(pool:map(square, {})))
    assert.is_nil(next(pool:map(square, counter(0))))
  end)

  it("takes the count of a list with holes from its n", function()
    local function show(x) return tostring(x) end
    local items = { nil, 2, nil, nil, n = 4 }
    assert.are.same({ "nil", "2", "nil", "nil" }, pool:map(show, items))
    assert.are.same({ "nil", "nil" }, pool:map(show, { n = 2 }))
  end)

  it("takes a list that counts and indexes itself", function()
    local proxy = setmetatable({}, {
      __len = function() return 3 end,
      __index = function(_, i) return i * 10 end,
    })
    assert.are.same({ 100, 400, 900 }, pool:map(square, proxy))
  end)

  it("takes an iterator function", function()
    assert.are.same(loop(square, numbers(50)), pool:map(square, counter(50)))
    assert.are.same({ "A", "BC" },
      pool:map(string.upper, ("a bc"):gmatch "%a+"))
    local words = coroutine.wrap(function()
      coroutine.yield("x")
      coroutine.yield("y")
    end)
    assert.are.same({ "X", "Y" }, pool:map(string.upper, words))
  end)

  it("reads false from an iterator as an item", function()
    local list, i = { false, true, false }, 0
    local function iterator()
      i = i + 1
      return list[i]
    end
    local function negate(x) return not x end
    assert.are.same({ true, false, true }, pool:map(negate, iterator))
  end)

  it("asks the iterator no more once it ended", function()
    local asked = 0
    local function once()
      asked = asked + 1
      if asked == 1 then return 5 end
    end
    assert.are.same({ 25 }, pool:map(square, once))
    assert.are.equal(2, asked)
  end)

  it("takes a callable table and a name as the function", function()
    local power = setmetatable({ n = 3 }, {
      __call = function(self, x) return x ^ self.n end,
    })
    assert.are.same({ 1.0, 8.0 }, pool:map(power, { 1, 2 }))
    assert.are.same({ 2, 3 }, pool:map("string.len", { "ab", "abc" }))
  end)

  it("runs each item once", function()
    local path = gate.name()
    local function note(x)
      gate.mark(path)
      return x
    end
    pool:map(note, numbers(200))
    assert.are.equal(200, gate.count(path))
  end)

  it("uses all workers, small tasks or large", function()
    local path = gate.name()
    local function meet() gate.meet(path, 2) end
    pool:map(meet, { 1, 2 })
    assert.are.equal(2, gate.count(path))
  end)

  it("lets one slow item hold up no other", function()
    local done, opened = gate.name(), gate.name()
    local function work(x)
      if x == 1 then
        gate.wait(done, 99)
        gate.mark(opened)
      else
        gate.mark(done)
      end
      return x
    end
    assert.are.same(numbers(100), pool:map(work, numbers(100)))
    assert.are.equal(1, gate.count(opened))
  end)

  it("copies the items", function()
    local function change(t)
      t.x = t.x + 1
      return t
    end
    local items = { { x = 1 }, { x = 2 } }
    assert.are.same({ { x = 2 }, { x = 3 } }, pool:map(change, items))
    assert.are.same({ { x = 1 }, { x = 2 } }, items)
  end)

  it("carries large items and results", function()
    local function twice(s) return s .. s end
    local items = {}
    for i = 1, 10 do items[i] = string.char(96 + i):rep(2 ^ 19) end
    local result = pool:map(twice, items)
    for i = 1, 10 do assert.is_true(result[i] == items[i] .. items[i]) end
  end)

  it("fails with the error of the lowest failing index", function()
    local path = gate.name()
    local function work(x)
      if x == 2 then
        gate.wait(path)
        error("second", 0)
      elseif x == 4 then
        gate.mark(path)
        error("fourth", 0)
      end
      return x
    end
    local err = errors.of("task", pool.map, pool, work, numbers(6), 1)
    assert.are.equal(2, err.index)
    assert.are.equal("second", err.value)
  end)

  it("drops the items after a failing one", function()
    local path = gate.name()
    local function work(x)
      gate.mark(path)
      if x == 1 then error("first", 0) end
      gate.sleep(0.01)
    end
    local err = errors.of("task", pool.map, pool, work, numbers(500), 1)
    assert.are.equal(1, err.index)
    pool:close()
    pool:join()
    assert.is_true(gate.count(path) < 400)
  end)

  it("goes on after an error", function()
    local function fail() error("no") end
    errors.of("task", pool.map, pool, fail, numbers(50))
    assert.are.same({ 1, 4, 9 }, pool:map(square, { 1, 2, 3 }))
  end)

  it("raises an error of its source at once and unchanged", function()
    local thrown = setmetatable({}, { __tostring = function() return "!" end })
    local n = 0
    local function source()
      n = n + 1
      if n == 3 then error(thrown) end
      return n
    end
    local ok, err = pcall(pool.map, pool, square, source)
    assert.is_false(ok)
    assert.is_true(rawequal(thrown, err))
    assert.are.same({ 4 }, pool:map(square, { 2 }))
  end)

  it("lets an item that cannot travel fail alone", function()
    local items = { 1, 2, { file = io.stdout }, 4 }
    local function kind(x) return type(x) end
    local results, errs = pool:map(kind, items, { on_error = "collect" })
    assert.are.same({ "number", "number", nil, "number" },
      { results[1], results[2], results[3], results[4] })
    assert.is_true(errors.is("encode", errs[3]))
    assert.are.equal(3, errs[3].index)
    assert.is_truthy(tostring(errs[3]):find(
      "cannot send a userdata (items[3].file)", 1, true))
    assert.are.equal(1, leaks.size(errs))
  end)

  it("lets a result that cannot travel fail alone", function()
    local function work(x) return x == 2 and io.stdout or x end
    local results, errs = pool:map(work, { 1, 2, 3 }, { on_error = "collect" })
    assert.are.same({ 1, 3 }, { results[1], results[3] })
    assert.is_true(errors.is("encode", errs[2]))
    assert.are.equal(2, errs[2].index)
  end)

  it("is atomic: a function that cannot travel fails at the call", function()
    local file = io.stdout
    local function work() return file end
    errors.of("encode", pool.map_async, pool, work, { 1 })
    assert.are.same({ 1 }, pool:map(square, { 1 }))
  end)

  it("works inside a coroutine", function()
    local co = coroutine.wrap(function() return pool:map(square, { 2, 3 }) end)
    assert.are.same({ 4, 9 }, co())
  end)
end)

describe("map_async", function()
  leaks.guard(before_each, after_each)

  it("gives one future of the list", function()
    local pool <close> = luapool.Pool(2)
    local future = pool:map_async(square, { 1, 2, 3 })
    assert.are.same({ 1, 4, 9 }, future:get())
    assert.is_true(future:successful())
  end)

  it("lets several maps run side by side", function()
    local pool <close> = luapool.Pool(2)
    local futures = {}
    for i = 1, 10 do
      local function add(x) return x + i end
      futures[i] = pool:map_async(add, numbers(100))
    end
    for i = 10, 1, -1 do
      assert.are.equal(100 + i, futures[i]:get()[100])
    end
  end)

  it("returns before its tasks are done", function()
    local pool <close> = luapool.Pool(1)
    local path = gate.name()
    local function wait() gate.wait(path) end
    local future = pool:map_async(wait, { 1, 2 })
    assert.is_false(future:ready())
    gate.mark(path)
    assert.are.same({ n = 2 }, future:get())
  end)

  it("gives results and errors where errors are collected", function()
    local pool <close> = luapool.Pool(2)
    local function half(x)
      if x % 2 == 1 then error("odd", 0) end
      return x // 2
    end
    local future = pool:map_async(half, { 1, 2, 4 }, { on_error = "collect" })
    local results, errs = future:get()
    assert.are.same({ 1, 2 }, { results[2], results[3] })
    assert.is_nil(results[1])
    assert.are.equal("odd", errs[1].value)
    assert.are.equal(1, leaks.size(errs))
  end)

  it("fails with the error of the lowest index", function()
    local pool <close> = luapool.Pool(2)
    local function fail(x) error(x) end
    local future = pool:map_async(fail, { 7, 8 })
    assert.are.equal(7, errors.of("task", future.get, future).value)
  end)
end)

describe("starmap", function()
  leaks.guard(before_each, after_each)
  local function join(...)
    local t = table.pack(...)
    for i = 1, t.n do t[i] = tostring(t[i]) end
    return table.concat(t, ","), "second value"
  end

  it("passes each item as an argument list", function()
    local pool <close> = luapool.Pool(2)
    local lists = { { 1, 2 }, {}, { nil, "x", nil, n = 3 }, { "a" } }
    local expected = { "1,2", "", "nil,x,nil", "a" }
    assert.are.same(expected, pool:starmap(join, lists))
    assert.are.same(expected, pool:starmap(join, lists, 2))
    assert.are.same(expected, pool:starmap_async(join, lists):get())
  end)

  it("takes an iterator of argument lists", function()
    local pool <close> = luapool.Pool(2)
    local n = 0
    local function lists()
      n = n + 1
      if n <= 3 then return { n, n } end
    end
    assert.are.same({ "1,1", "2,2", "3,3" }, pool:starmap(join, lists))
  end)

  it("names the argument that cannot travel", function()
    local pool <close> = luapool.Pool(1)
    local lists = { { 1 }, { 1, { file = io.stdout } } }
    local err = errors.of("encode", pool.starmap, pool, join, lists)
    assert.are.equal(2, err.index)
    assert.is_truthy(tostring(err):find("(items[2][2].file)", 1, true))
  end)

  it("collects errors", function()
    local pool <close> = luapool.Pool(2)
    local function divide(a, b) return a // b end
    local results, errs = pool:starmap(divide, { { 4, 2 }, { 1, 0 } },
      { on_error = "collect" })
    assert.are.equal(2, results[1])
    assert.is_true(errors.is("task", errs[2]))
  end)
end)
