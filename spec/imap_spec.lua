-- SPDX-License-Identifier: MIT
-- imap and imap_unordered: results while the source is still being read, by no
-- more than its workers need.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"

local BOTH = { "imap", "imap_unordered" }

local function square(x) return x * x end

local function numbers(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

-- An endless source 1, 2, 3 ... and a function that tells how far it was read.
local function endless()
  local n = 0
  return function()
    n = n + 1
    return n
  end, function() return n end
end

describe("imap", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(2) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("gives index and result in the order of the items", function()
    for _, n in ipairs { 0, 1, 2, 100, 1000 } do
      local expected = 0
      for i, v in pool:imap(square, numbers(n)) do
        expected = expected + 1
        assert.are.equal(expected, i)
        assert.are.equal(i * i, v)
      end
      assert.are.equal(n, expected)
    end
  end)

  it("keeps the order where the first item is the last one done", function()
    local path = gate.name()
    local function work(x)
      if x == 1 then gate.wait(path) end
      if x == 2 then gate.mark(path) end
      return x
    end
    local seen = {}
    for i, v in pool:imap(work, { 1, 2, 3, 4 }) do seen[#seen + 1] = i + v end
    assert.are.same({ 2, 4, 6, 8 }, seen)
  end)

  it("lets one slow item hold up no other", function()
    local path = gate.name()
    local function work(x)
      if x == 1 then gate.wait(path, 3) else gate.mark(path) end
      return x
    end
    local sum = 0
    for _, v in pool:imap(work, { 1, 2, 3, 4 }) do sum = sum + v end
    assert.are.equal(10, sum)
  end)

  it("raises at the turn of a failing item and goes on behind it", function()
    local function work(x)
      if x % 3 == 0 then error("bad " .. x, 0) end
      return x
    end
    local following = pool:imap(work, numbers(7))
    local seen = {}
    for i = 1, 7 do
      local ok, index, value = pcall(following)
      if ok then
        assert.are.equal(i, index)
        seen[#seen + 1] = value
      else
        assert.is_true(errors.is("task", index))
        assert.are.equal(i, index.index)
        seen[#seen + 1] = index.value
      end
    end
    assert.are.same({ 1, 2, "bad 3", 4, 5, "bad 6", 7 }, seen)
    assert.is_nil(following())
  end)

  it("raises out of the for loop", function()
    local function work(x)
      if x == 3 then error("three") end
      return x
    end
    local last
    local err = errors.of("task", function()
      for i in pool:imap(work, numbers(10)) do last = i end
    end)
    assert.are.equal(2, last)
    assert.are.equal(3, err.index)
  end)

  it("raises an error of the source after the results before it", function()
    local thrown = {}
    local n = 0
    local function source()
      n = n + 1
      if n > 5 then error(thrown) end
      return n
    end
    local following, seen = pool:imap(square, source), {}
    for _ = 1, 5 do
      local _, v = following()
      seen[#seen + 1] = v
    end
    assert.are.same({ 1, 4, 9, 16, 25 }, seen)
    local ok, err = pcall(following)
    assert.is_false(ok)
    assert.is_true(rawequal(thrown, err))
    assert.is_nil(following())
  end)
end)

describe("imap_unordered", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(2) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  it("gives every result once, with the index of its item", function()
    local seen, n = {}, 0
    for i, v in pool:imap_unordered(square, numbers(500)) do
      assert.is_nil(seen[i])
      assert.are.equal(i * i, v)
      seen[i] = true
      n = n + 1
    end
    assert.are.equal(500, n)
  end)

  it("gives results in the order of completion", function()
    local path = gate.name()
    local function work(x)
      if x == 1 then gate.wait(path) end
      return x
    end
    local order = {}
    for i in pool:imap_unordered(work, { 1, 2, 3, 4, 5 }) do
      order[#order + 1] = i
      if #order == 4 then gate.mark(path) end
    end
    assert.are.equal(1, order[5])
    assert.are.equal(5, #order)
  end)

  it("raises for a failing item and goes on", function()
    local function work(x)
      if x % 4 == 0 then error("bad") end
      return x
    end
    local following = pool:imap_unordered(work, numbers(12))
    local good, bad = 0, {}
    for _ = 1, 12 do
      local ok, i, v = pcall(following)
      if ok then good = good + v else bad[#bad + 1] = i.index end
    end
    table.sort(bad)
    assert.are.same({ 4, 8, 12 }, bad)
    assert.are.equal(78 - 24, good)
    assert.is_nil(following())
  end)

  it("raises an error of the source when the results are out", function()
    local n = 0
    local function source()
      n = n + 1
      if n > 6 then error("source", 0) end
      return n
    end
    local following, sum = pool:imap_unordered(square, source), 0
    for _ = 1, 6 do
      local _, v = following()
      sum = sum + v
    end
    assert.are.equal(91, sum)
    local ok, err = pcall(following)
    assert.is_false(ok)
    assert.are.equal("source", err)
    assert.is_nil(following())
  end)
end)

for _, name in ipairs(BOTH) do
  describe("as any iterator, " .. name, function()
    leaks.guard(before_each, after_each)
    local pool, imap
    before_each(function()
      pool = luapool.Pool(2)
      imap = function(...) return pool[name](pool, ...) end
    end)
    leaks.finish(function()
      pool:terminate()
      pool, imap = nil, nil
    end)

    it("gives nil results without ending", function()
      local function nothing() end
      local n = 0
      for _, v in imap(nothing, numbers(10)) do
        assert.is_nil(v)
        n = n + 1
      end
      assert.are.equal(10, n)
    end)

    it("takes holes, iterators and a chunk size", function()
      local function show(x) return tostring(x) end
      local seen = {}
      for i, v in imap(show, { nil, 2, nil, n = 3 }) do seen[i] = v end
      assert.are.same({ "nil", "2", "nil" }, seen)
      for _, opts in ipairs { 1, 3, { chunksize = 5 }, { buffersize = 3 } } do
        local sum, read = 0, 0
        local function source()
          read = read + 1
          if read <= 20 then return read end
        end
        for _, v in imap(square, source, opts) do sum = sum + v end
        assert.are.equal(2870, sum)
      end
    end)

    it("may be called by hand and stays at its end", function()
      local following = imap(square, { 3 })
      local i, v = following()
      assert.are.same({ 1, 9 }, { i, v })
      assert.is_nil(following())
      assert.is_nil(following())
    end)

    it("has a closing value", function()
      local _, _, _, closing = imap(square, { 1 })
      assert.is_function(getmetatable(closing).__close)
    end)

    it("reads nothing before it is asked", function()
      local source, read = endless()
      local following = imap(square, source)
      assert.are.equal(0, read())
      assert.is_not_nil((following()))
      assert.is_true(read() > 0)
    end)

    it("reads the source only in its own calls", function()
      local source, read = endless()
      local following = imap(square, source)
      following()
      local n = read()
      pool:map(square, numbers(100))
      pool:poll(0.02)
      assert.are.equal(n, read())
      following()
    end)

    it("reads two chunks a worker ahead, the first of one item", function()
      local source, read = endless()
      local following = imap(square, source)
      following()
      assert.is_true(read() <= 8)
    end)

    it("reads little ahead of slow tasks", function()
      local function slow(x)
        gate.sleep(0.01)
        return x
      end
      local source, read = endless()
      local taken = 0
      for _ in imap(slow, source) do
        taken = taken + 1
        assert.is_true(read() - taken <= 64)
        if taken == 60 then break end
      end
    end)

    it("keeps its memory flat with large items", function()
      local function large() return ("x"):rep(2 ^ 18) end
      local function size(s) return #s end
      collectgarbage()
      local before, taken = collectgarbage("count"), 0
      for _, n in imap(size, large) do
        assert.are.equal(2 ^ 18, n)
        taken = taken + 1
        if taken % 10 == 0 then
          collectgarbage()
          assert.is_true(collectgarbage("count") - before < 48 * 1024)
        end
        if taken == 200 then break end
      end
    end)

    it("hands out what is done while the next task runs", function()
      local own <close> = luapool.Pool(1)
      local path = gate.name()
      local function work(x)
        if x > 1 then gate.wait(path) end
        return x
      end
      local following = own[name](own, work, { 1, 2, 3 })
      local sum = following()
      gate.mark(path)
      for i in following do sum = sum + i end
      assert.are.equal(6, sum)
    end)

    for _, size in ipairs { 1, 4 } do
      it("reads no more than a buffersize of " .. size .. " ahead", function()
        local source, read = endless()
        local taken = 0
        for _ in imap(square, source, { buffersize = size }) do
          taken = taken + 1
          assert.is_true(read() <= taken + size)
          if taken == 50 then break end
        end
      end)
    end

    it("keeps all workers at work", function()
      local path = gate.name()
      local function meet() gate.meet(path, 2) end
      local n = 0
      for _ in imap(meet, { 1, 2 }) do n = n + 1 end
      assert.are.equal(2, n)
    end)

    it("drops what has not started where the loop is left", function()
      local path = gate.name()
      local function note(x)
        gate.mark(path)
        gate.sleep(0.002)
        return x
      end
      local source, read = endless()
      for i in imap(note, source) do if i >= 3 then break end end
      local n = read()
      pool:close()
      pool:join()
      assert.are.equal(n, read())
      assert.is_true(gate.count(path) <= n)
    end)

    it("drops what has not started of a long list too", function()
      local path = gate.name()
      local function note()
        gate.mark(path)
        gate.sleep(0.002)
      end
      for _ in imap(note, numbers(2000)) do break end -- luacheck: ignore 512
      pool:close()
      pool:join()
      assert.is_true(gate.count(path) < 1000)
    end)

    it("drops what has not started where it is collected", function()
      local path = gate.name()
      local function note()
        gate.mark(path)
        gate.sleep(0.002)
      end
      local following = imap(note, numbers(2000))
      following()
      following = nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
      pool:close()
      pool:join()
      assert.is_true(gate.count(path) < 1000)
    end)

    it("leaves a pool that works behind a break", function()
      local source = endless()
      for _ in imap(square, source) do break end -- luacheck: ignore 512
      assert.are.same({ 1, 4, 9 }, pool:map(square, { 1, 2, 3 }))
    end)

    it("finishes its list after close", function()
      local following, sum = imap(square, numbers(50)), 0
      following()
      pool:close()
      local _, v = following()
      while v do
        sum = sum + v
        _, v = following()
      end
      assert.is_true(sum > 40000)
      errors.of("closed", imap, square, { 1 })
    end)

    it("keeps its pool alive", function()
      local function make()
        local own = luapool.Pool(1)
        return own[name](own, square, numbers(30))
      end
      local following, n = make(), 0
      collectgarbage()
      collectgarbage()
      for _ in following do n = n + 1 end
      assert.are.equal(30, n)
    end)

    it("lets two loops run side by side", function()
      local a, b = imap(square, numbers(20)), imap(square, numbers(20))
      local sum = 0
      for _ = 1, 20 do
        local _, v = a()
        local _, w = b()
        sum = sum + v + w
      end
      assert.are.equal(2 * 2870, sum)
    end)

    it("lets an item that cannot travel fail at its turn", function()
      local following = imap(square, { 1, { 2, { file = io.stdout } }, 3 })
      local seen
      for _ = 1, 3 do
        local ok, err = pcall(following)
        if not ok then seen = err end
      end
      assert.is_true(errors.is("encode", seen))
      assert.are.equal(2, seen.index)
      assert.is_truthy(tostring(seen):find("(items[2][2].file)", 1, true))
      assert.is_nil(following())
    end)

    it("stops a task that runs past its timeout", function()
      local function work(x)
        while x == 2 do end
        return x
      end
      local following = imap(work, { 1, 2, 3 }, { timeout = 0.2 })
      local sum, seen = 0, nil
      for _ = 1, 3 do
        local ok, err, v = pcall(following)
        if ok then sum = sum + v else seen = err end
      end
      assert.are.equal(4, sum)
      assert.is_true(errors.is("timeout", seen))
      assert.are.equal(2, seen.index)
    end)
  end)
end
