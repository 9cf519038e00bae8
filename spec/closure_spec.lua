-- SPDX-License-Identifier: MIT
-- Functions as bytes: by name or by value, with upvalues and globals; and
-- sessions, which know what a worker has. Parent and worker are here two
-- sessions of one Lua state; functions_spec has real workers.
local host = require "luapool.host"
local pass = require "spec.support.pass"

local encode, decode, back = host.encode, host.decode, pass.back

-- The functions of this file have busted's environment for their _ENV. Those
-- of a chunk from load have the globals, as in a script.
local function chunk(text, ...)
  return assert(load(text, "=chunk"))(...)
end

describe("a function by value", function()
  it("has its code, parameters and results", function()
    local f = back(function(a, ...) return a, select("#", ...), ... end)
    assert.are.same({ n = 4, 1, 2, nil, 3 }, table.pack(f(1, nil, 3)))
  end)

  it("has its upvalues as they are at the call", function()
    local x, t = 1, { y = 2 }
    local function f() return x, t.y end
    local g = back(f)
    x, t.y = 3, 4
    assert.are.same({ 1, 2 }, { g() })
    assert.are.same({ 3, 4 }, { f() })
  end)

  it("changes its own upvalues, not ours", function()
    local count = 0
    local function f()
      count = count + 1
      return count
    end
    local g = back(f)
    assert.are.same({ 1, 2 }, { g(), g() })
    assert.are.equal(0, count)
  end)

  it("keeps the globals apart from a first upvalue that is none", function()
    local f, first = chunk [[
      local first, second = "first", "second"
      return function() return first, second, math end, first
    ]]
    assert.are.equal("first", first)
    assert.are.same({ "first", "second", math }, { back(f)() })
    local g = chunk "local x = 5 return function() return x end"
    assert.are.equal(5, back(g)())
  end)

  it("has the globals of where it is, known by identity", function()
    local f = chunk "local env = _G return function() return env, _ENV end"
    local env, inner = back(f)()
    assert.are.equal(_G, env)
    assert.are.equal(_G, inner)
  end)

  it("may have any value in an upvalue, nil too", function()
    local a, b, c, d = nil, false, 0.5, ("x"):rep(1000)
    assert.are.same({ nil, false, 0.5, d },
      { back(function() return a, b, c, d end)() })
  end)

  it("may be recursive, also by way of others", function()
    local function factorial(n) return n < 2 and 1 or n * factorial(n - 1) end
    assert.are.equal(120, back(factorial)(5))
    local even, odd
    function even(n) return n == 0 or odd(n - 1) end
    function odd(n) return n ~= 0 and even(n - 1) end
    assert.is_true(back(even)(10))
    assert.is_false(back(odd)(10))
    local t = {}
    function t.f() return t end
    local copy = back(t)
    assert.are.equal(copy, copy.f())
  end)

  it("shares upvalues with the other functions of its message", function()
    local n = 0
    local function add() n = n + 1 end
    local function get() return n end
    local add2, all = back(add, { get = get, add = add })
    add2()
    all.add()
    assert.are.equal(2, all.get())
    assert.are.equal(all.add, add2)
    assert.are.equal(0, n)
  end)

  it("is one function, however often it is in the message", function()
    local function f() end
    local t = back({ f, f, [f] = f })
    assert.are.equal(t[1], t[2])
    assert.are.equal(t[1], t[t[1]])
  end)

  it("may be one of many of the same code, sent once", function()
    local list = {}
    for i = 1, 100 do
      list[i] = function(a, b, c)
        return ("a long text, so that the code is long"):len() + a + b + c + i
      end
    end
    assert.is_true(#encode(list) < 20 * #encode(list[1]))
    local copy = back(list)
    for i = 1, 100 do assert.are.equal(list[i](1, 2, 3), copy[i](1, 2, 3)) end
  end)

  it("may be nested in upvalues 100,000 levels deep", function()
    local f = function() return 0 end
    for _ = 1, 100000 do
      local inner = f
      f = function() return inner end
    end
    local g = back(f)
    for _ = 1, 100000 do g = g() end
    assert.are.equal(0, g())
  end)

  it("may have 255 upvalues", function()
    local parts = {}
    for i = 1, 2 do
      for j = 1, 127 do
        parts[#parts + 1] = ("local v%d_%d = %d "):format(i, j, i * j)
      end
      parts[#parts + 1] = "local function f" .. i .. "() return 0"
      for j = 1, 127 do
        parts[#parts + 1] = (" + v%d_%d"):format(i, j)
        if i == 2 then parts[#parts + 1] = (" + v1_%d"):format(j) end
      end
      parts[#parts + 1] = " end "
      if i == 1 then parts[#parts + 1] = "return (function() " end
    end
    local f = chunk(table.concat(parts) .. "return f2 end)()")
    assert.are.equal(f(), back(f)())
  end)

  it("keeps its debug information", function()
    local f = chunk "return function() error 'here' end"
    local _, message = pcall(back(f))
    assert.are.equal("chunk:1: here", message)
    assert.are.equal("a", debug.getlocal(back(function(a) return a end), 1))
    local info = debug.getinfo(back(f), "S")
    assert.are.same({ "=chunk", 1 }, { info.source, info.linedefined })
  end)

  it("needs decode's leave", function()
    local bytes = encode(print, function() end)
    assert.is_false(pcall(decode, bytes))
    assert.are.equal(print, (decode(bytes, { code = true })))
  end)
end)

describe("a function by name", function()
  after_each(function() package.loaded["closure.sample"] = nil end)

  it("may be of the base or of a standard library", function()
    for _, f in ipairs { print, pcall, require, string.format, table.concat,
      io.write, coroutine.wrap, os.time, math.sin, package.searchpath,
      utf8.char, debug.traceback, setmetatable } do
      assert.are.equal(f, back(f))
    end
    assert.are.equal(string.format, decode(encode(string.format)))
  end)

  it("may be a module, its field, or the field of a field", function()
    local sample = { work = function() end, sub = { work = function() end } }
    package.loaded["closure.sample"] = sample
    package.loaded["closure.sample2"] = function() end
    assert.are.equal(sample.work, back(sample.work))
    assert.are.equal(sample.sub.work, back(sample.sub.work))
    assert.are.equal(package.loaded["closure.sample2"],
      back(package.loaded["closure.sample2"]))
    package.loaded["closure.sample2"] = nil
  end)

  it("is found under names with dots and any bytes", function()
    local sample = { ["a.b"] = { ["c\0d"] = function() end } }
    package.loaded["closure.sample"] = sample
    local f = sample["a.b"]["c\0d"]
    assert.are.equal(f, back(f))
  end)

  it("is named by what it is now", function()
    local sample = { work = function() return 1 end }
    package.loaded["closure.sample"] = sample
    local old = sample.work
    assert.are.equal(old, back(old))
    sample.work = function() return 2 end
    assert.are.equal(sample.work, back(sample.work))
    assert.are_not.equal(old, back(old))
    assert.are.equal(1, back(old)())
    sample.more = function() end
    assert.are.equal(sample.more, back(sample.more))
  end)

  it("has no name by being a global", function()
    local f = chunk "function lpc_global() return 7 end return lpc_global"
    assert.are_not.equal(f, back(f))
    assert.are.equal(7, back(f)())
    rawset(_G, "lpc_global", nil)
  end)

  it("is not found where the module has something else there", function()
    local sample = { work = function() end }
    package.loaded["closure.sample"] = sample
    local bytes = encode(sample.work)
    for _, value in ipairs { 1, "text", false } do
      sample.work = value
      local ok, err = pcall(decode, bytes, { code = true })
      assert.is_false(ok)
      assert.matches("closure.sample.work", tostring(err), 1, true)
    end
  end)
end)

describe("a session", function()
  local parent, worker, to_worker, to_parent

  -- What the parent sends, as the worker gets it. `scope`: of one call.
  local function send(...)
    local bytes = assert(host.pack(parent, to_worker, "args", true, ...))
    return select(2, assert(host.unpack(worker, to_parent, bytes)))
  end

  -- And back.
  local function reply(...)
    local bytes = assert(host.pack(worker, to_parent, "result", true, ...))
    return select(2, assert(host.unpack(parent, to_worker, bytes)))
  end

  -- The message that says: what is registered under this name.
  local function encode_name(name)
    return "\4\xe6" .. string.char(#name) .. name
  end

  local function next_call() to_worker, to_parent = {}, {} end

  local function view(mode) parent:view(parent:snapshot(mode or "fork")) end

  -- Sets these globals in the worker: here, after the parent has sent. Returns
  -- what the function answers there.
  local function call_without(names, f, ...)
    local bytes = assert(host.pack(parent, to_worker, "args", true, f, ...))
    local kept = {}
    for _, name in ipairs(names) do
      kept[name] = rawget(_G, name)
      rawset(_G, name, nil)
    end
    local values = table.pack(host.unpack(worker, to_parent, bytes))
    local result = values[1] and table.pack(pcall(table.unpack(values, 2)))
    for _, name in ipairs(names) do
      kept[name .. " there"] = rawget(_G, name)
      rawset(_G, name, kept[name])
    end
    assert(values[1], values[2])
    assert(result[1], result[2])
    return result[2], kept
  end

  before_each(function()
    parent, worker = host.session(0), host.session(1)
    next_call()
  end)

  after_each(function()
    for name in pairs(_G) do
      if type(name) == "string" and name:find "^lpc_" then
        rawset(_G, name, nil)
      end
    end
    package.loaded["closure.sample"] = nil
    package.preload["closure.sample"] = nil
  end)

  describe("knows classes:", function()
    local Class
    before_each(function()
      Class = { count = 1 }
      Class.__index = Class
    end)

    it("what goes and comes back has the very same metatable", function()
      local object = send(setmetatable({ x = 1 }, Class))
      assert.are_not.equal(Class, getmetatable(object))
      assert.are.equal(1, object.count)
      local again = reply(object)
      assert.are.equal(Class, getmetatable(again))
    end)

    it("one table there, as metatable, argument, field or upvalue", function()
      local object, class, t, f = send(setmetatable({}, Class), Class,
        { class = Class }, function() return Class end)
      assert.are.equal(class, getmetatable(object))
      assert.are.equal(class, t.class)
      assert.are.equal(class, f())
      assert.are.equal(class, (send(Class)))
      next_call()
      assert.are.equal(class, (send(Class)))
      assert.are.equal(class, getmetatable(send(setmetatable({}, Class))))
    end)

    it("also one that is met as a plain table first", function()
      local plain = {}
      local copy, object = send(plain, setmetatable({}, plain))
      assert.are.equal(copy, getmetatable(object))
      assert.are.equal(plain, (reply(copy)))
    end)

    it("with the fields it has at the call", function()
      local class = send(Class)
      Class.count, Class.more = nil, 2
      assert.are.equal(1, send(Class).count)
      next_call()
      assert.are.equal(class, (send(Class)))
      assert.is_nil(class.count)
      assert.are.equal(2, class.more)
      class.more = 3
      reply(class)
      assert.are.equal(2, Class.more)
    end)

    it("several new ones in one message", function()
      local classes = {}
      for i = 1, 20 do classes[i] = { __index = { i } } end
      local copies = send(classes)
      next_call()
      for i = 1, 20 do
        assert.are.equal(i, copies[i].__index[1])
        assert.are.equal(copies[i], (send(classes[i])))
        assert.are.equal(classes[i], (reply(copies[i])))
      end
    end)

    it("with its own metatable", function()
      local Base = { base = true }
      Base.__index = Base
      setmetatable(Class, Base)
      local object = send(setmetatable({}, Class))
      assert.is_true(object.base)
      assert.are.equal(Base, getmetatable(getmetatable(reply(object))))
      setmetatable(Class, nil)
      next_call()
      assert.is_nil(getmetatable(send(Class)))
    end)

    it("those made in a worker keep their identity too", function()
      local Theirs = setmetatable({}, { __name = "Theirs" })
      Theirs.__index = Theirs
      local a = reply(setmetatable({}, Theirs))
      next_call()
      local b = reply(setmetatable({}, Theirs))
      assert.are.equal(getmetatable(a), getmetatable(b))
      assert.are_not.equal(Theirs, getmetatable(a))
      assert.are.equal(Theirs, getmetatable(send(a)))
    end)

    it("those of different workers are different", function()
      local other, scope = host.session(2), {}
      local A, B = { __index = 1 }, { __index = 2 }
      local a = reply(setmetatable({}, A))
      local bytes = host.pack(other, {}, "result", true, setmetatable({}, B))
      local _, b = host.unpack(parent, scope, bytes)
      assert.are_not.equal(getmetatable(a), getmetatable(b))
      assert.are.equal(1, getmetatable(a).__index)
      assert.are.equal(2, getmetatable(b).__index)
    end)

    it("a global one is known to a worker forked then", function()
      rawset(_G, "lpc_Class", Class)
      view()
      parent:child(3)
      -- the worker sends it by id alone: its parent has it
      local bytes = host.pack(parent, {}, "result", true, Class)
      assert.is_true(#bytes < 10)
      assert.are.equal(Class, select(2, host.unpack(parent, {}, bytes)))
    end)

    it("contents go once a call, the id alone after that", function()
      Class.text = ("x"):rep(1000)
      local first = #host.pack(parent, to_worker, "", true, Class)
      local second = #host.pack(parent, to_worker, "", true, Class)
      assert.is_true(first > 1000 and second < 20)
    end)

    it("a message that fails leaves the scope as it was", function()
      Class.text = ("x"):rep(1000)
      assert.is_nil((host.pack(parent, to_worker, "", true, Class, io.stdout)))
      assert.is_true(#host.pack(parent, to_worker, "", true, Class) > 1000)
    end)

    it("a class that nobody has any more is collected", function()
      local weak = setmetatable({}, { __mode = "k" })
      weak[Class], weak[send(Class)] = true, true
      Class = nil
      next_call()
      collectgarbage()
      collectgarbage()
      assert.is_nil(next(weak))
    end)
  end)

  describe("sends a function with the globals it uses", function()
    it("and that were assigned since, raw", function()
      view()
      setmetatable(_G, { __index = function(_, k) error("strict: " .. k) end })
      local f = chunk [[
        function lpc_helper(x) return x + 1 end
        return function(x) return lpc_helper(x) end
      ]]
      local ok, n, there = pcall(call_without, { "lpc_helper" }, f, 41)
      setmetatable(_G, nil)
      assert(ok, n)
      assert.are.equal(42, n)
      -- it is set in the worker for good
      assert.are.equal("function", type(there["lpc_helper there"]))
    end)

    it("not those the worker has", function()
      chunk "lpc_table = {('x'):rep(1000)}"
      view()
      local f = chunk "return function() return #lpc_table[1] end"
      assert.is_true(#host.pack(parent, {}, "", true, f) < 200)
      chunk "lpc_table = {('y'):rep(1000)}"
      assert.is_true(#host.pack(parent, {}, "", true, f) > 1000)
      view()
      assert.is_true(#host.pack(parent, {}, "", true, f) < 200)
    end)

    it("nor those it only assigns", function()
      view()
      rawset(_G, "lpc_out", io.stdout)
      local f = chunk "return function() lpc_out = 1 end"
      assert(host.pack(parent, {}, "", true, f))
    end)

    it("itself or through the functions it calls", function()
      chunk "function lpc_outer() return lpc_inner() end"
      view()
      local f = chunk [[
        function lpc_inner() return lpc_value end
        lpc_value = 5
        local function first() return lpc_outer() end
        return function() return first() end
      ]]
      assert.are.equal(5, (call_without({ "lpc_inner", "lpc_value" }, f)))
    end)

    it("through functions of modules, which go by name", function()
      package.loaded["closure.sample"] = chunk [[
        local M = {}
        function M.work() return lpc_option end
        return M
      ]]
      view()
      rawset(_G, "lpc_option", "new")
      local f = package.loaded["closure.sample"].work
      assert.are.equal("new", (call_without({ "lpc_option" }, f)))
      local g = chunk [[
        local sample = require "closure.sample"
        return function() return sample.work() end
      ]]
      assert.are.equal("new", (call_without({ "lpc_option" }, g)))
    end)

    it("in nested functions, and where there are many constants", function()
      view()
      local parts = { "lpc_value = 3 return function() local t = {" }
      for i = 1, 400 do parts[#parts + 1] = ("'constant %d',"):format(i) end
      parts[#parts + 1] = "} return function() return #t + lpc_value end end"
      local f = chunk(table.concat(parts))
      parts[#parts] = "} return #t + lpc_value end"
      local g = chunk(table.concat(parts))
      assert.are.equal(403, (call_without({ "lpc_value" }, f))())
      assert.are.equal(403, (call_without({ "lpc_value" }, g)))
    end)

    it("by way of _G and _ENV", function()
      view()
      local f = chunk "lpc_value = 4 return function() return _G.lpc_value end"
      assert.are.equal(4, (call_without({ "lpc_value" }, f)))
      local g = chunk [[
        return function()
          local env = _ENV
          return env["lpc_value"]
        end]]
      assert.are.equal(4, (call_without({ "lpc_value" }, g)))
    end)

    it("fields assigned to a global table too", function()
      chunk "lpc_M = { data = {} } function lpc_M.old() return 1 end"
      view()
      local f = chunk [[
        function lpc_M.new() return 2 end
        return function() return lpc_M.old() + lpc_M.new() end
      ]]
      local bytes = host.pack(parent, to_worker, "", true, f)
      local old = rawget(_G, "lpc_M")
      old.new = nil
      local _, g = assert(host.unpack(worker, to_parent, bytes))
      assert.are.equal(3, g())
      assert.are.equal(2, old.new())
      -- and in the library of the strings
      rawset(string, "lpc_twice", function(s) return s .. s end)
      local h = chunk "return function(s) return s:lpc_twice() end"
      bytes = host.pack(parent, to_worker, "", true, h)
      rawset(string, "lpc_twice", nil)
      _, h = assert(host.unpack(worker, to_parent, bytes))
      assert.are.equal("abab", h "ab")
      rawset(string, "lpc_twice", nil)
    end)

    it("fields found by computed names too", function()
      chunk "lpc_M = {}"
      view()
      local f = chunk [[
        function lpc_M.new() return 2 end
        return function(name) return lpc_M[name]() end
      ]]
      local bytes = host.pack(parent, to_worker, "", true, f)
      rawget(_G, "lpc_M").new = nil
      local _, g = assert(host.unpack(worker, to_parent, bytes))
      assert.are.equal(2, g "new")
    end)

    it("those of another _ENV, looked up through it at the call", function()
      view()
      local env = setmetatable({ lpc_own = 1 }, { __index = function(_, k)
        if k == "lpc_computed" then return 2 end
        return _G[k]
      end })
      local f = assert(load(
        "return lpc_own + lpc_computed + math.abs(-3)", "=env", "t", env))
      assert.are.equal(6, (call_without({}, f)))
      assert.are.equal(1, rawget(_G, "lpc_own"))
      local g = send(f)
      local _, inner = debug.getupvalue(g, 1)
      assert.are.equal(_G, inner)
    end)

    it("those of an _ENV that raises an error are taken raw", function()
      view()
      rawset(_G, "lpc_raw", 3)
      local env = setmetatable({}, { __index = function() error "strict" end })
      local f = assert(load("return lpc_raw", "=env", "t", env))
      assert.are.equal(3, (call_without({ "lpc_raw" }, f)))
    end)

    it("functions of large tables and of tables in them too", function()
      chunk [[
        lpc_M, lpc_sub = {}, { sub = {} }
        for i = 1, 20000 do lpc_M["k" .. i] = i end
        function lpc_sub.sub.f() return lpc_value end
      ]]
      view()
      local f = chunk [[
        function lpc_M.new() return 2 end
        lpc_value = 3
        return function() return lpc_M.new() + lpc_sub.sub.f() end
      ]]
      local bytes = host.pack(parent, to_worker, "", true, f)
      rawget(_G, "lpc_M").new = nil
      rawset(_G, "lpc_value", nil)
      local _, g = assert(host.unpack(worker, to_parent, bytes))
      assert.are.equal(5, g())
    end)

    it("lists that a global holds are not walked through", function()
      chunk "lpc_list = {} for i = 1, 200000 do lpc_list[i] = i end"
      view()
      local f = chunk "return function(i) return lpc_list[i] end"
      local start = os.clock()
      for _ = 1, 1000 do host.pack(parent, {}, "", true, f) end
      assert.is_true(os.clock() - start < 0.5)
    end)

    it("one that cannot travel fails the call, by name", function()
      view()
      rawset(_G, "lpc_file", { io.stdout })
      local f = chunk "return function() return lpc_file end"
      local _, message = host.pack(parent, {}, "f", false, f)
      assert.are.equal("cannot send a userdata (global 'lpc_file'[1])", message)
      chunk "lpc_M = {}"
      view()
      rawget(_G, "lpc_M").next_word = string.gmatch("", "")
      f = chunk "return function() return lpc_M.next_word() end"
      _, message = host.pack(parent, {}, "f", false, f)
      assert.are.equal(
        "cannot send a C function (global 'lpc_M.next_word')", message)
    end)

    it("all of them that a fresh state lacks, by spawn", function()
      chunk "lpc_value = 7 function lpc_helper() return lpc_value end"
      view "spawn"
      local f = chunk "return function() return lpc_helper(), print end"
      local names = { "lpc_value", "lpc_helper" }
      assert.are.equal(7, (call_without(names, f)))
      local size = #host.pack(parent, {}, "", true, print, string.format, math)
      assert.is_true(size < 60)
    end)

    it("results come without globals", function()
      view()
      parent:child(1)
      local f = chunk [[
        lpc_value = ("x"):rep(1000)
        return function() return lpc_value end
      ]]
      assert.is_true(#host.pack(parent, {}, "", true, f) < 200)
    end)
  end)

  describe("knows what a worker has under a name:", function()
    local sample

    before_each(function()
      sample = { work = function() return 1 end }
      package.loaded["closure.sample"] = sample
    end)

    it("a function of a module it has goes by name", function()
      view()
      assert.are.equal(sample.work, (send(sample.work)))
    end)

    it("a table of data in a module goes by value", function()
      sample.data, sample.Class = { 1 }, { __index = {} }
      view()
      local data, class = send(sample.data, sample.Class)
      assert.are_not.equal(sample.data, data)
      assert.are.same({ 1 }, data)
      assert.are.equal(sample.Class, class)
    end)

    it("one redefined since goes by value", function()
      view()
      local old = sample.work
      sample.work = function() return 2 end
      assert.are_not.equal(sample.work, (send(sample.work)))
      assert.are.equal(2, send(sample.work)())
      -- the old one still has that name there
      assert.matches("closure.sample", host.pack(parent, {}, "", true, old), 1,
        true)
    end)

    it("a module loaded since is required there, if it can be found",
      function()
        local name = "spec.support.found"
        package.loaded["closure.sample"], package.loaded[name] = nil, nil
        view()
        package.loaded["closure.sample"] = sample
        assert.are_not.equal(sample.work, (send(sample.work)))
        next_call()
        local found = require(name)
        local bytes = host.pack(parent, {}, "", true, found, found.work)
        package.loaded[name] = nil
        local _, module, work = assert(host.unpack(worker, {}, bytes))
        assert.are_not.equal(found, module)
        assert.are.equal(package.loaded[name], module)
        assert.are.equal(module.work, work)
      end)

    it("what is registered since has to be defined there first", function()
      local inner, outer, last = { 1 }, {}, {}
      outer.inner, inner.outer, last.outer = inner, outer, outer
      host.register("closure_spec outer", outer)
      host.register("closure_spec inner", inner)
      host.register("closure_spec last", last)
      assert.are.equal(outer, (send(outer)))
      -- in this one state that replaces the registered values
      local messages = {}
      for i, name in ipairs { "outer", "inner", "last" } do
        messages[i] = parent:define("closure_spec " .. name)
      end
      for i = 1, 3 do worker:defined(messages[i]) end
      local copy = decode(encode_name "closure_spec outer")
      assert.are_not.equal(outer, copy)
      assert.are.equal(copy, copy.inner.outer)
      assert.are.equal(copy.inner, decode(encode_name "closure_spec inner"))
      assert.are.equal(copy, decode(encode_name "closure_spec last").outer)
      assert.is_true(#host.pack(worker, {}, "", true, copy) < 40)
      assert.has_error(function() parent:define "closure_spec none" end)
      host.register("closure_spec file", { io.stdout })
      assert.has_error(function() parent:define "closure_spec file" end)
    end)

    it("what is registered in a worker is a copy in the parent", function()
      view()
      parent:child(1)
      local mine = { 1 }
      host.register("closure_spec mine", mine)
      local bytes = host.pack(parent, {}, "", true, mine)
      local _, copy = host.unpack(host.session(0), {}, bytes)
      assert.are_not.equal(mine, copy)
      assert.are.same({ 1 }, copy)
    end)
  end)
end)
