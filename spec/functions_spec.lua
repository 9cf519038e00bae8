-- SPDX-License-Identifier: MIT
-- What travels through a pool: functions with their upvalues and globals, by
-- name or by value, classes that stay the same there and back, and plain data.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

local METHODS = { "fork", "spawn" }

local function pass(...) return ... end

-- The functions of this file have busted's environment for their _ENV. Those
-- of a chunk from load have the globals, as in a script.
local function chunk(text, ...)
  return assert(load(text, "=chunk"))(...)
end

-- Globals of these names are set by tests and removed after each.
local PREFIX = "^lps_"
local function forget_globals()
  for name in pairs(_G) do
    if type(name) == "string" and name:find(PREFIX) then _G[name] = nil end
  end
end

for _, method in ipairs(METHODS) do
  describe("a function through a pool by " .. method, function()
    leaks.guard(before_each, after_each)
    local pool
    before_each(function()
      pool = luapool.Pool { 1, start_method = method }
    end)
    leaks.finish(function()
      pool:terminate()
      pool = nil
      forget_globals()
    end)

    it("has its upvalues as they are at the call", function()
      local n = 1
      local function add(x) return x + n end
      assert.are.equal(11, pool:apply(add, { 10 }))
      n = 5
      assert.are.equal(15, pool:apply(add, { 10 }))
    end)

    it("has upvalues of every type", function()
      local t, s, i, f, b, none = { 1, { 2 } }, "s", 3, 3.0, true, nil
      local function get() return t[2][1], s, i, f, b, none end
      local r = table.pack(pool:apply(get))
      assert.are.same({ 2, "s", 3, 3.0, true, nil, n = 6 }, r)
      assert.are.equal("integer", math.type(r[3]))
      assert.are.equal("float", math.type(r[4]))
    end)

    it("may call itself", function()
      local function factorial(n)
        return n < 2 and 1 or n * factorial(n - 1)
      end
      assert.are.same({ 1, 2, 6, 24 }, pool:map(factorial, { 1, 2, 3, 4 }))
    end)

    it("may call a function that calls it", function()
      local even
      local function odd(n)
        if n == 0 then return false end
        return even(n - 1)
      end
      function even(n)
        if n == 0 then return true end
        return odd(n - 1)
      end
      assert.are.same({ true, false, true }, pool:map(even, { 0, 1, 20 }))
      assert.are.same({ false, true, false }, pool:map(odd, { 0, 1, 20 }))
    end)

    it("shares upvalues with others of the same message", function()
      local n = 10
      local function increment() n = n + 1 end
      local function get() return n end
      local function work(fs)
        fs.increment()
        fs.increment()
        return fs.get(), get()
      end
      local a, b = pool:apply(work, { { increment = increment, get = get } })
      assert.are.equal(12, a)
      assert.are.equal(10, n)
      assert.is_true(b == 10 or b == 12)
    end)

    it("shares upvalues with the functions it calls", function()
      local n = 0
      local function increment() n = n + 1 end
      local function work()
        increment()
        increment()
        return n
      end
      assert.are.equal(2, pool:apply(work))
      assert.are.equal(2, pool:apply(work))
      assert.are.equal(0, n)
    end)

    it("keeps its upvalues in a worker for one call only", function()
      local n = 0
      local function count()
        n = n + 1
        return n
      end
      for _ = 1, 2 do
        assert.are.same({ 1, 2, 3 }, pool:map(count, { 1, 2, 3 }, 1))
      end
      assert.are.equal(0, n)
    end)

    it("may be made by a function, in a table, with varargs", function()
      local function adder(n) return function(...) return n + select(2, ...) end
      end
      local t = { f = adder(7) }
      assert.are.equal(9, pool:apply(t.f, { 1, 2 }))
    end)

    it("may be a result, with its upvalues", function()
      local function make(n)
        return function(x)
          n = n + x
          return n
        end
      end
      local f = pool:apply(make, { 10 })
      assert.are.equal(15, f(5))
      assert.are.equal(17, f(2))
    end)

    it("keeps its names and lines for error messages", function()
      local function work(t) return t.missing.field end
      local err = errors.of("task", pool.apply, pool, work, { {} })
      local line = debug.getinfo(work, "S").linedefined
      assert.is_truthy(err.message:find("functions_spec.lua:" .. line, 1, true))
      assert.is_truthy(err.message:find("field 'missing'", 1, true))
    end)

    it("uses modules as upvalues", function()
      local lib = leaks
      local function work() return lib.size({ 1, 2 }), string.rep("x", 3) end
      local n, s = pool:apply(work)
      assert.are.equal(2, n)
      assert.are.equal("xxx", s)
    end)

    it("uses the standard library through busted's environment", function()
      local function work(x)
        return tostring(x), math.max(1, 2), table.concat({ "a", "b" })
      end
      assert.are.same({ "1", 2, "ab" }, { pool:apply(work, { 1 }) })
    end)

    it("may require modules", function()
      local function work()
        local m = require "spec.support.leaks"
        return m.size({ 1, 2, 3 })
      end
      assert.are.equal(3, pool:apply(work))
    end)

    it("goes by name where a module names it", function()
      local function same(f, g, h)
        return rawequal(f, string.format),
          rawequal(g, require("spec.support.leaks").size),
          rawequal(h, require "spec.support.leaks")
      end
      local results = { pool:apply(same, { string.format, leaks.size, leaks }) }
      assert.are.same({ true, true, true }, results)
    end)

    it("comes back as the same one where a module names it", function()
      local function get()
        return string.format, require("spec.support.leaks").size, leaks
      end
      local a, b, c = pool:apply(get)
      assert.is_true(rawequal(string.format, a))
      assert.is_true(rawequal(leaks.size, b))
      assert.is_true(rawequal(leaks, c))
    end)

    it("goes by value where it was redefined in its module", function()
      local original = leaks.size
      finally(function() leaks.size = original end)
      function leaks.size(t) return "redefined " .. original(t) end
      assert.are.equal("redefined 2", pool:apply(leaks.size, { { 1, 2 } }))
      assert.are.same({ "redefined 1" }, pool:map(leaks.size, { { 1 } }))
    end)

    it("may come from a module loaded since", function()
      local path = os.tmpname()
      local name = path:match "[^/]+$"
      local old = package.path
      gate.mark(path .. ".lua", [[
        local M = { twice = function(x) return 2 * x end }
        return M
      ]])
      finally(function()
        package.path, package.loaded[name] = old, nil
        os.remove(path)
        os.remove(path .. ".lua")
      end)
      package.path = package.path .. ";/tmp/?.lua"
      local own <close> = luapool.Pool { 1, start_method = method }
      local twice = require(name).twice
      assert.are.equal(8, own:apply(twice, { 4 }))
      assert.are.equal(8, own:apply(name .. ".twice", { 4 }))
    end)

    it("of C that nothing names cannot travel", function()
      local unnamed = coroutine.wrap(print)
      errors.of("encode", pool.apply, pool, unnamed)
      errors.of("encode", pool.apply, pool, pass, { { f = unnamed } })
    end)
  end)

  describe("globals of a function by " .. method, function()
    leaks.guard(before_each, after_each)
    local pool
    before_each(function()
      rawset(_G, "lps_early", function() return "early" end)
      rawset(_G, "lps_table", { x = 1 })
      pool = luapool.Pool { 1, start_method = method }
    end)
    leaks.finish(function()
      pool:terminate()
      pool = nil
      forget_globals()
    end)

    it("are there where they were before the pool", function()
      assert.are.equal("early", pool:apply(chunk [[
        return function() return lps_early() end
      ]]))
      assert.are.equal(1, pool:apply(chunk [[
        return function() return lps_table.x end
      ]]))
    end)

    it("travel where they were defined since", function()
      local work = chunk [[
        function lps_helper(x) return x + 1 end
        return function(x) return lps_helper(x) end
      ]]
      assert.are.equal(6, pool:apply(work, { 5 }))
      assert.are.same({ 2, 3 }, pool:map(work, { 1, 2 }))
    end)

    it("travel where they were redefined since", function()
      local work = chunk [[
        return function() return lps_early() end
      ]]
      assert.are.equal("early", pool:apply(work))
      for _, value in ipairs { "second", "third" } do
        chunk([[
          local value = ...
          function lps_early() return value end
        ]], value)
        assert.are.equal(value, pool:apply(work))
      end
    end)

    it("travel through the functions they call", function()
      local work = chunk [[
        lps_factor = 10
        function lps_inner(x) return x * lps_factor end
        function lps_outer(x) return lps_inner(x) + 1 end
        return function(x) return lps_outer(x) end
      ]]
      assert.are.equal(51, pool:apply(work, { 5 }))
      chunk "lps_factor = 100"
      assert.are.equal(501, pool:apply(work, { 5 }))
    end)

    it("may call each other", function()
      local work = chunk [[
        function lps_even(n) return n == 0 or lps_odd(n - 1) end
        function lps_odd(n) return n ~= 0 and lps_even(n - 1) end
        return lps_even
      ]]
      assert.are.same({ true, false, true }, pool:map(work, { 0, 7, 8 }))
    end)

    it("may be of any type", function()
      local work = chunk [[
        lps_string, lps_list, lps_no = "s", { 1, 2 }, false
        return function() return lps_string, #lps_list, lps_no end
      ]]
      assert.are.same({ "s", 2, false }, { pool:apply(work) })
    end)

    it("are used by functions inside functions", function()
      local work = chunk [[
        function lps_deep() return "deep" end
        return function()
          return (function() return (function() return lps_deep() end)() end)()
        end
      ]]
      assert.are.equal("deep", pool:apply(work))
    end)

    it("are used by arguments and upvalues too", function()
      local work, argument = chunk [[
        function lps_one() return 1 end
        function lps_two() return 2 end
        local function upvalue() return lps_one() end
        return function(f) return upvalue() + f() end,
          function() return lps_two() end
      ]]
      assert.are.equal(3, pool:apply(work, { argument }))
    end)

    it("stay set in the worker", function()
      pool:apply(chunk [[
        lps_kept = "kept"
        return function() return lps_kept end
      ]])
      assert.are.equal("kept", pool:apply(chunk [[
        return function() return rawget(_G, "lps_" .. "kept") end
      ]]))
    end)

    it("that a task assigns stay in its worker", function()
      pool:apply(chunk "return function() lps_worker_only = 1 end")
      assert.is_nil(rawget(_G, "lps_worker_only"))
      assert.are.equal(1, pool:apply(chunk [[
        return function() return rawget(_G, "lps_" .. "worker_only") end
      ]]))
    end)

    it("that are tables bring the functions assigned to them", function()
      local work = chunk [[
        function lps_table.double(x) return 2 * x end
        return function(x) return lps_table.double(x) end
      ]]
      assert.are.equal(8, pool:apply(work, { 4 }))
      chunk "function lps_table.double(x) return x .. x end"
      assert.are.equal("44", pool:apply(work, { 4 }))
    end)

    it("that are new tables travel whole", function()
      local work = chunk [[
        lps_M = { n = 3 }
        function lps_M.add(x) return x + lps_M.n end
        return function(x) return lps_M.add(x) end
      ]]
      assert.are.equal(8, pool:apply(work, { 5 }))
      chunk "function lps_M.add(x) return -x end"
      assert.are.equal(-5, pool:apply(work, { 5 }))
    end)

    it("are not taken for a module", function()
      local work = chunk [[
        function lps_named(x) return { x } end
        return lps_named
      ]]
      assert.are.same({ 1 }, pool:apply(work, { 1 }))
      assert.is_false((pcall(pool.apply, pool, "_G.lps_named", { 1 })))
    end)

    it("are looked up through a function's own _ENV", function()
      local env = setmetatable({
        helper = function(x) return x * 3 end, limit = 10,
      }, { __index = _G })
      local work = load(
        "return function(x) return math.min(helper(x), limit) end", "=env",
        "t", env)()
      assert.are.same({ 9, 10 }, pool:map(work, { 3, 4 }))
      env.helper = function(x) return x end
      assert.are.equal(4, pool:apply(work, { 4 }))
    end)

    it("are the worker's for a function with its own _ENV", function()
      local work = load([[
        return function()
          lps_from_env = "set"
          return _ENV == _G or rawget(_G, "lps_" .. "from_env")
        end
      ]], "=env", "t", setmetatable({}, { __index = _G }))()
      assert.is_truthy(pool:apply(work))
    end)

    it("of busted's environment travel too", function()
      spec_helper = function(x) return x + 100 end -- luacheck: ignore
      local function work(x) return spec_helper(x) end -- luacheck: ignore
      assert.are.equal(101, pool:apply(work, { 1 }))
    end)

    it("reach a replacement and the workers of a restart", function()
      local work = chunk [[
        function lps_helper() return "helped" end
        return function() return lps_helper() end
      ]]
      assert.are.equal("helped", pool:apply(work))
      errors.of("lost", pool.apply, pool, os.exit, { 1 })
      assert.are.equal("helped", pool:apply(work))
      pool:restart()
      assert.are.equal("helped", pool:apply(work))
    end)

    it("reach every worker of a pool", function()
      local own <close> = luapool.Pool { 3, start_method = method }
      local path = gate.name()
      local work = chunk([[
        local gate = ...
        function lps_helper() return "here" end
        return function(path)
          gate.meet(path, 3)
          return lps_helper()
        end
      ]], gate)
      assert.are.same({ "here", "here", "here" },
        own:map(work, { path, path, path }, 1))
    end)
  end)

  describe("classes by " .. method, function()
    leaks.guard(before_each, after_each)
    local pool
    before_each(function()
      pool = luapool.Pool { 2, start_method = method }
    end)
    leaks.finish(function()
      pool:terminate()
      pool = nil
      forget_globals()
    end)

    local function new_class()
      local Class = {}
      Class.__index = Class
      function Class.new(x) return setmetatable({ x = x }, Class) end
      function Class:get() return self.x end
      return Class
    end

    it("are the very same when objects come back", function()
      local Class = new_class()
      local back = pool:map(pass, { Class.new(1), Class.new(2) })
      for i, object in ipairs(back) do
        assert.is_true(rawequal(Class, getmetatable(object)))
        assert.are.equal(i, object:get())
      end
    end)

    it("are the very same for objects made in a worker", function()
      local Class = new_class()
      local function make(x) return Class.new(x), { Class.new(x + 1) } end
      local a, b = pool:apply(make, { 5 })
      assert.is_true(rawequal(Class, getmetatable(a)))
      assert.is_true(rawequal(Class, getmetatable(b[1])))
      assert.are.equal(6, b[1]:get())
    end)

    it("are one table in the worker however they arrive", function()
      local Class = new_class()
      local function work(object, class, holder)
        local own = Class
        return getmetatable(object) == class, class == own,
          holder.class == own, getmetatable(Class.new(1)) == class
      end
      local results =
        { pool:apply(work, { Class.new(1), Class, { class = Class } }) }
      assert.are.same({ true, true, true, true }, results)
    end)

    it("are one table in the worker over calls", function()
      local own <close> = luapool.Pool { 1, start_method = method }
      local Class = new_class()
      own:apply(chunk "return function(c) lps_class = c end", { Class })
      local same = chunk [[
        return function(o)
          return getmetatable(o) == rawget(_G, "lps_" .. "class")
        end
      ]]
      assert.is_true(own:apply(same, { Class.new(1) }))
    end)

    it("have the methods they have at the call", function()
      local Class = new_class()
      local function call(object) return object:get() end
      assert.are.equal(3, pool:apply(call, { Class.new(3) }))
      function Class:get() return -self.x end
      assert.are.equal(-3, pool:apply(call, { Class.new(3) }))
      function Class:added() return "added" .. self:get() end
      local function added(object) return object:added() end
      assert.are.equal("added-3", pool:apply(added, { Class.new(3) }))
    end)

    it("inherit", function()
      local Base = new_class()
      local Derived = setmetatable({}, { __index = Base })
      Derived.__index = Derived
      function Derived:get() return "derived " .. Base.get(self) end
      function Base:base() return "base " .. self.x end
      local function call(object)
        object.seen = true
        return object:get(), object:base(), object
      end
      local object = setmetatable({ x = 1 }, Derived)
      local a, b, back = pool:apply(call, { object })
      assert.are.equal("derived 1", a)
      assert.are.equal("base 1", b)
      assert.is_true(rawequal(Derived, getmetatable(back)))
      assert.is_true(back.seen)
    end)

    it("keep their metamethods", function()
      local Vector = {}
      Vector.__index = Vector
      Vector.__add = function(a, b)
        return setmetatable({ a[1] + b[1] }, Vector)
      end
      Vector.__eq = function(a, b) return a[1] == b[1] end
      local function add(a, b) return a + b end
      local function v(x) return setmetatable({ x }, Vector) end
      local sum = pool:apply(add, { v(1), v(2) })
      assert.is_true(sum == v(3))
    end)

    it("of the globals are the worker's own", function()
      local own
      chunk [[
        lps_Class = {}
        lps_Class.__index = lps_Class
        function lps_Class:get() return self.x end
      ]]
      own = luapool.Pool { 1, start_method = method }
      local work = chunk [[
        return function(o)
          return getmetatable(o) == lps_Class, o:get(),
            setmetatable({ x = 9 }, lps_Class)
        end
      ]]
      local Class = rawget(_G, "lps_Class")
      local same, x, back =
        own:apply(work, { setmetatable({ x = 5 }, Class) })
      own:terminate()
      assert.is_true(same)
      assert.are.equal(5, x)
      assert.is_true(rawequal(Class, getmetatable(back)))
    end)

    it("may be called, locked or answer by functions", function()
      local store = { a = 1 }
      local Class = setmetatable({}, {
        __call = function(self, x) return setmetatable({ x = x }, self) end,
      })
      Class.__index = function(_, key) return store[key] end
      Class.__metatable = "locked"
      local function work(object) return object.a, Class(object.x + 1) end
      local a, back = pool:apply(work, { Class(1) })
      assert.are.equal(1, a)
      assert.are.equal(2, rawget(back, "x"))
      assert.are.equal("locked", getmetatable(back))
      assert.is_true(rawequal(Class, debug.getmetatable(back)))
    end)

    it("made in a worker stay one class of a result", function()
      local function make(x)
        local Own = {}
        Own.__index = Own
        function Own:get() return self.x end
        local function object(y) return setmetatable({ x = y }, Own) end
        return { object(x), object(x + 1) }
      end
      local function check(pair)
        return getmetatable(pair[1]) == getmetatable(pair[2]), pair[2]:get()
      end
      for i, pair in ipairs(pool:map(make, { 10, 20 })) do
        assert.is_true(rawequal(getmetatable(pair[1]), getmetatable(pair[2])))
        assert.are.equal(i * 10, pair[1]:get())
        local same, x = pool:apply(check, { pair })
        assert.is_true(same)
        assert.are.equal(i * 10 + 1, x)
      end
    end)

    it("of installed modules are the very same", function()
      local List = require "pl.List" -- busted brings it
      local function work(list)
        return list:sort(), getmetatable(list) == require "pl.List"
      end
      local sorted, same = pool:apply(work, { List { 3, 1, 2 } })
      assert.is_true(same)
      assert.is_true(rawequal(List, getmetatable(sorted)))
      assert.are.equal("{1,2,3}", tostring(sorted))
    end)

    it("of error values are the very same", function()
      local Oops = new_class()
      local function fail() error(Oops.new("oops")) end
      local err = errors.of("task", pool.apply, pool, fail)
      assert.is_true(rawequal(Oops, getmetatable(err.value)))
      assert.are.equal("oops", err.value:get())
    end)
  end)
end

describe("registered values", function()
  leaks.guard(before_each, after_each)

  it("travel by reference to workers made later", function()
    local big = { ("x"):rep(100) }
    luapool.register("lps.before", big)
    local pool <close> = luapool.Pool(1)
    local function work(t) return t == big, t end
    local same, back = pool:apply(work, { big })
    assert.is_true(same)
    assert.is_true(rawequal(big, back))
  end)

  it("are sent once to workers made earlier", function()
    local pool <close> = luapool.Pool(2)
    local big = { ("x"):rep(2 ^ 20) }
    luapool.register("lps.after", big)
    local function work(t, u) return #t[1] + #u[1], t end
    for _ = 1, 5 do
      local n, back = pool:apply(work, { big, big })
      assert.are.equal(2 ^ 21, n)
      assert.is_true(rawequal(big, back))
    end
    pool:map(function(t) return #t[1] end, { big, big, big, big, big, big })
    local stats = pool:stats()
    assert.is_true(stats.bytes_in + stats.bytes_out < 2.5 * 2 ^ 20)
  end)

  it("may be functions and classes", function()
    local Class = {}
    Class.__index = Class
    local function secret() return "secret" end
    luapool.register("lps.Class", Class)
    luapool.register("lps.secret", secret)
    for _, method in ipairs(METHODS) do
      local pool <close> = luapool.Pool { 1, start_method = method }
      local function work(object, f)
        return getmetatable(object) == Class, f(), object, f
      end
      local same, text, object, f =
        pool:apply(work, { setmetatable({}, Class), secret })
      assert.is_true(same)
      assert.are.equal("secret", text)
      assert.is_true(rawequal(Class, getmetatable(object)))
      assert.is_true(rawequal(secret, f))
    end
  end)
end)

describe("the state of a worker", function()
  leaks.guard(before_each, after_each)
  leaks.finish(forget_globals)

  local read = chunk [[
    return function(name) return rawget(_G, name) end
  ]]

  it("is inherited under fork", function()
    rawset(_G, "lps_state", { "here" })
    local pool <close> = luapool.Pool { 1, start_method = "fork" }
    assert.are.same({ "here" }, pool:apply(read, { "lps_state" }))
  end)

  it("is fresh under spawn", function()
    rawset(_G, "lps_state", { "here" })
    local pool <close> = luapool.Pool { 1, start_method = "spawn" }
    assert.is_nil(pool:apply(read, { "lps_state" }))
    local function loaded() return package.loaded["spec.support.script"] end
    assert.is_nil(pool:apply(loaded))
  end)

  it("has the module paths and arg under spawn", function()
    local pool <close> = luapool.Pool { 1, start_method = "spawn" }
    local function paths() return package.path, package.cpath end
    assert.are.same({ package.path, package.cpath }, { pool:apply(paths) })
    assert.are.same(arg, pool:apply(read, { "arg" }))
  end)

  it("does not see changes inside tables, but those of a restart", function()
    rawset(_G, "lps_state", { x = 1 })
    local pool <close> = luapool.Pool(1)
    local x = chunk "return function() return lps_state.x end"
    chunk "lps_state.x = 2"
    assert.are.equal(1, pool:apply(x))
    pool:restart()
    assert.are.equal(2, pool:apply(x))
  end)

  it("sees a table that was assigned anew", function()
    rawset(_G, "lps_state", { x = 1 })
    local pool <close> = luapool.Pool(1)
    local x = chunk "return function() return lps_state.x end"
    assert.are.equal(1, pool:apply(x))
    chunk "lps_state = { x = 2 }"
    assert.are.equal(2, pool:apply(x))
  end)
end)

describe("strict modules", function()
  leaks.guard(before_each, after_each)

  for _, method in ipairs(METHODS) do
    it("stay quiet under " .. method, function()
      assert.are.equal("7\t2\n", script.output([[
        setmetatable(_G, {
          __index = function(_, name) error("read of " .. name, 2) end,
          __newindex = function(t, name, value)
            if debug.getinfo(2, "S").what ~= "main" then
              error("write of " .. name, 2)
            end
            rawset(t, name, value)
          end,
        })
        local pool <close> = luapool.Pool{1, start_method = "]] .. method ..
        [["}
        function helper(x) return x + 1 end
        local function work(x)
          if x > 100 then return undefined_name end
          return helper(x)
        end
        print(pool:apply(work, {6}), #pool:map(work, {1, 2}))
      ]]))
    end)
  end
end)

describe("a script at its plainest", function()
  leaks.guard(before_each, after_each)

  it("defines a helper after the pool, and again", function()
    assert.are.equal("11\n101\n", script.output([[
      local pool <close> = luapool.Pool(2)
      function helper(x) return x + 1 end
      function work(x) return helper(x * 10) end
      print(pool:map(work, {1})[1])
      function helper(x) return x * 10 + 1 end
      print(pool:map(work, {1})[1])
    ]]))
  end)

  it("uses functions of the main chunk, local and global", function()
    assert.are.equal("2 4 6\n", script.output([[
      local function double(x) return 2 * x end
      function show(x) return ("%d"):format(double(x)) end
      local pool <close> = luapool.Pool(2)
      print(table.concat(pool:map(show, {1, 2, 3}), " "))
    ]]))
  end)
end)

describe("plain data through a pool", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  local function echo(...) return ... end

  it("keeps numbers exactly", function()
    local list = { 0, 1, -1, math.maxinteger, math.mininteger, 1.0, -0.0,
      2 ^ 53, 1e308, 5e-324, math.huge, -math.huge, math.pi }
    for i, v in ipairs(pool:map(echo, list)) do
      assert.are.equal(math.type(list[i]), math.type(v))
      assert.are.equal(string.pack("n", list[i]), string.pack("n", v))
    end
    local nan = pool:apply(echo, { 0 / 0 })
    assert.is_true(nan ~= nan)
  end)

  it("keeps every byte of strings, of any length", function()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local all = table.concat(bytes)
    assert.are.equal(all, pool:apply(echo, { all }))
    for _, n in ipairs { 0, 1, 4095, 4096, 4097, 65535, 65536, 65537,
      2 ^ 20 } do
      local s = ("z"):rep(n)
      assert.is_true(s == pool:apply(echo, { s }))
    end
  end)

  it("keeps holes, cycles and shared references", function()
    local t = { 1, nil, 3, [10] = "ten", [true] = "yes", [1.5] = "float" }
    t.self = t
    t.a = {}
    t.b = t.a
    local back = pool:apply(echo, { t })
    assert.is_true(rawequal(back, back.self))
    assert.is_true(rawequal(back.a, back.b))
    assert.is_nil(back[2])
    assert.are.same({ 3, "ten", "yes", "float" },
      { back[3], back[10], back[true], back[1.5] })
  end)

  it("keeps what two arguments share", function()
    local shared = {}
    local function same(a, b) return a == b[1], a, b end
    local equal, a, b = pool:apply(same, { shared, { shared } })
    assert.is_true(equal)
    assert.is_true(rawequal(a, b[1]))
  end)

  it("keeps tables as keys", function()
    local key = { "key" }
    local function lookup(t, k) return t[k] end
    assert.are.equal("v", pool:apply(lookup, { { [key] = "v" }, key }))
  end)

  it("goes a million levels deep", function()
    local list
    for i = 1, 1000000 do list = { i, list } end
    local function depth(l)
      local n = 0
      while l do n, l = n + 1, l[2] end
      return n
    end
    assert.are.equal(1000000, pool:apply(depth, { list }))
  end)

  it("keeps cjson's null", function()
    local ok, cjson = pcall(require, "cjson")
    if not ok then return pending "no cjson here" end
    local null = cjson.null
    local function check(v, t) return v == null, t.x, { null } end
    local same, x, list = pool:apply(check, { null, { x = null } })
    assert.is_true(same)
    assert.is_true(rawequal(null, x))
    assert.is_true(rawequal(null, list[1]))
  end)

  it("refuses what has no copy, naming its place", function()
    local refused = {
      ["args[1].x"] = { { x = coroutine.create(print) } },
      ["args[2]"] = { 1, io.stdout },
      ["args[1][2][3]"] = { { 1, { 1, 2, io.stdin } } },
    }
    for place, args in pairs(refused) do
      local err = errors.of("encode", pool.apply, pool, echo, args)
      assert.is_truthy(tostring(err):find("(" .. place .. ")", 1, true))
    end
    assert.are.equal(1, pool:apply(echo, { 1 }))
  end)
end)
