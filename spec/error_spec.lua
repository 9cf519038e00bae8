-- SPDX-License-Identifier: MIT
-- What fails, how it says so, and where: wrong use as a plain string at the
-- caller's level, all else as a luapool.Error.
local luapool = require "luapool"
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"

local CALLS = { "apply", "apply_async", "map", "map_async", "starmap",
  "starmap_async", "imap", "imap_unordered" }

local function pass(...) return ... end
local function raise(v) error(v, 0) end
local function signalled(name) os.execute("kill -" .. name .. " $PPID") end

-- True for the calls whose second argument is one list of arguments.
local function is_apply(name) return name:find "^apply" ~= nil end

describe("wrong use", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  for _, name in ipairs(CALLS) do
    it("is an error at the caller's level: " .. name, function()
      local text = ("bad argument #1 to '%s' (function expected, got %%s)")
        :format(name)
      errors.misuse(text:format "nil",
        function() pool[name](pool, nil, {}) end)
      errors.misuse(text:format "number",
        function() pool[name](pool, 42, {}) end)
      errors.misuse(text:format "table",
        function() pool[name](pool, {}, {}) end)
    end)

    it("of the second and third argument: " .. name, function()
      errors.misuse_naming(("bad argument #2 to '%s'"):format(name),
        function() pool[name](pool, pass, 42) end)
      errors.misuse_naming("got number)",
        function() pool[name](pool, pass, 42) end)
      errors.misuse_naming(("bad argument #3 to '%s'"):format(name),
        function() pool[name](pool, pass, {}, "opts") end)
    end)

    it("is an option that is not known: " .. name, function()
      errors.misuse_naming("chunksiz",
        function() pool[name](pool, pass, {}, { chunksiz = 1 }) end)
      errors.misuse_naming("processes",
        function() pool[name](pool, pass, {}, { processes = 1 }) end)
    end)
  end

  it("of a map without items names the second argument", function()
    errors.misuse_naming("bad argument #2 to 'map'",
      function() pool:map(pass) end)
  end)

  local nan = 0 / 0
  local wrong = {
    chunksize = { 0, -1, 1.5, "2", {}, nan },
    timeout = { "1", -1, {}, nan },
    deadline = { "1", -1, {}, nan },
    retries = { -1, 1.5, "1", {} },
    on_error = { "colect", 42, true },
  }
  for option, values in pairs(wrong) do
    it("is a wrong value of an option: " .. option, function()
      for _, value in ipairs(values) do
        local opts = { [option] = value }
        errors.misuse_naming(option,
          function() pool:map(pass, { 1 }, opts) end)
        errors.misuse_naming(option,
          function() pool:map_async(pass, { 1 }, opts) end)
      end
    end)
  end

  it("is a wrong callback", function()
    for _, option in ipairs { "callback", "error_callback" } do
      local opts = { [option] = 42 }
      errors.misuse_naming(option,
        function() pool:apply_async(pass, {}, opts) end)
      errors.misuse_naming(option,
        function() pool:map_async(pass, {}, opts) end)
    end
  end)

  it("is a wrong size of the buffer", function()
    for _, value in ipairs { 0, -1, 1.5, "2" } do
      local opts = { buffersize = value }
      errors.misuse_naming("buffersize",
        function() pool:imap(pass, {}, opts) end)
      errors.misuse_naming("buffersize",
        function() pool:imap_unordered(pass, {}, opts) end)
    end
  end)

  it("is a chunk size that is none, as a plain number", function()
    for _, value in ipairs { 0, -1, 1.5 } do
      errors.misuse_naming("chunksize",
        function() pool:map(pass, { 1 }, value) end)
    end
  end)

  it("is a timeout that is none", function()
    local future = pool:apply_async(pass)
    errors.misuse_naming("bad argument #1 to 'get'",
      function() future:get("1") end)
    errors.misuse_naming("bad argument #1 to 'wait'",
      function() future:wait({}) end)
    errors.misuse_naming("bad argument #1 to 'poll'",
      function() pool:poll("1") end)
    pool:close()
    errors.misuse_naming("bad argument #1 to 'join'",
      function() pool:join("1") end)
  end)

  it("names the method called with a dot", function()
    for _, name in ipairs(CALLS) do
      errors.misuse_naming("'" .. name .. "'",
        function() pool[name](pass, { 1 }) end)
      errors.misuse_naming("'" .. name .. "'", function() pool[name]() end)
      errors.misuse_naming("'" .. name .. "'", function() pool[name]({}) end)
    end
    for _, name in ipairs { "close", "join", "terminate", "restart", "poll",
      "fileno", "stats" } do
      errors.misuse_naming("'" .. name .. "'", function() pool[name]() end)
    end
    local future = pool:apply_async(pass)
    for _, name in ipairs { "get", "result", "wait", "ready", "done",
      "running", "successful", "exception", "cancel", "cancelled",
      "add_done_callback" } do
      errors.misuse_naming("'" .. name .. "'", function() future[name]() end)
      errors.misuse_naming("'" .. name .. "'", function() future[name]({}) end)
    end
  end)

  it("leaves the pool usable", function()
    pcall(pool.map, pool, pass, { 1 }, { chunksize = 0 })
    pcall(pool.map, pool)
    assert.are.same({ 1 }, pool:map(pass, { 1 }))
  end)

  it("is an error of the functions on the default pool too", function()
    for _, name in ipairs { "apply", "map", "starmap", "imap",
      "imap_unordered" } do
      errors.misuse(
        "bad argument #1 to '" .. name .. "' (function expected, got nil)",
        function() luapool[name](nil, {}) end)
    end
  end)
end)

describe("an error of kind task", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  local function failure(f, ...)
    return errors.of("task", pool.apply, pool, f, { ... })
  end

  it("has luapool.Error as its metatable", function()
    local ok, err = pcall(pool.apply, pool, raise, { "x" })
    assert.is_false(ok)
    assert.is_true(rawequal(luapool.Error, getmetatable(err)))
  end)

  it("has the value that the plain loop would have raised", function()
    local function work(x) error("bad " .. x) end
    local ok, plain = pcall(work, 1)
    assert.is_false(ok)
    assert.are.equal(plain, failure(work, 1).value)
    local function index(t) return t.x.y end
    ok, plain = pcall(index, {})
    assert.is_false(ok)
    assert.are.equal(plain, failure(index, {}).value)
  end)

  for _, value in ipairs { "text", "", 42, 1.5, true, false } do
    it(("keeps %s (%s)"):format(tostring(value), type(value)), function()
      local err = failure(raise, value)
      assert.are.equal(value, err.value)
      assert.are.equal(math.type(value), math.type(err.value))
      assert.is_string(err.message)
    end)
  end

  it("is an error too where nil was raised", function()
    local err = failure(raise, nil)
    assert.is_nil(err.value)
    assert.is_string(err.message)
    assert.are.same({ 1, 2 }, pool:map(pass, { 1, 2 }))
  end)

  it("keeps the fields of error tables", function()
    local err = failure(raise, { code = 3, list = { 1, 2 } })
    assert.are.same({ code = 3, list = { 1, 2 } }, err.value)
    assert.is_string(failure(raise, {}).message)
  end)

  it("keeps the class of error objects", function()
    local Class = {}
    Class.__index = Class
    Class.__tostring = function(self) return "class: " .. self.what end
    local function throw() error(setmetatable({ what = "boom" }, Class)) end
    local err = failure(throw)
    assert.is_true(rawequal(Class, getmetatable(err.value)))
    assert.are.equal("class: boom", tostring(err.value))
    assert.is_truthy(tostring(err):find("class: boom", 1, true))
    assert.is_truthy(err.message:find("class: boom", 1, true))
  end)

  it("has the text of a value that cannot travel", function()
    local function throw(what)
      if what == "file" then error(io.stdout) end
      if what == "thread" then error(coroutine.create(print)) end
      error({ file = io.stdout })
    end
    assert.is_truthy(failure(throw, "file").value:find "^file %(")
    assert.is_truthy(failure(throw, "thread").value:find("thread", 1, true))
    assert.is_truthy(failure(throw, "table").value:find("table", 1, true))
    assert.are.equal(5, pool:apply(pass, { 5 }))
  end)

  it("survives an error object that cannot be shown", function()
    local function throw()
      error(setmetatable({}, { __tostring = function() error("again") end }))
    end
    local err = failure(throw)
    assert.is_string(err.message)
    assert.is_string(tostring(err))
    local function odd()
      error(setmetatable({}, { __tostring = function() return 42 end }))
    end
    assert.is_string(failure(odd).message)
    assert.are.equal(5, pool:apply(pass, { 5 }))
  end)

  it("survives an error in the finalizer of an argument", function()
    local function work()
      setmetatable({}, { __gc = function() error("gc") end })
      collectgarbage()
      return 1
    end
    assert.are.equal(1, pool:apply(work))
    assert.are.equal(5, pool:apply(pass, { 5 }))
  end)

  it("survives a stack that overflows", function()
    local function deep(n) return 1 + deep(n + 1) end
    local err = failure(deep, 1)
    assert.is_truthy(err.message:find("stack overflow", 1, true))
    assert.are.equal(5, pool:apply(pass, { 5 }))
  end)

  it("has the worker's traceback", function()
    local function inner_function() error("deep", 2) end
    local function outer_function()
      inner_function()
      return 1
    end
    local err = failure(outer_function)
    assert.is_truthy(err.traceback:find("stack traceback", 1, true))
    assert.is_truthy(err.traceback:find("inner_function", 1, true))
    local line = debug.getinfo(outer_function, "S").linedefined + 1
    assert.is_truthy(err.traceback:find("error_spec.lua:" .. line, 1, true))
  end)

  it("shows nothing of the inside of luapool", function()
    local err = errors.of("task", pool.map, pool, string.rep, { {} })
    assert.is_nil((err.value:find("luapool", 1, true)), err.value)
    local function work() error("mine", 2) end
    err = failure(work)
    assert.is_nil((err.value:find("luapool", 1, true)), err.value)
  end)

  it("names the item and the function", function()
    local function third(x) if x == 3 then error("no") end end
    local err = errors.of("task", pool.map, pool, third, { 1, 2, 3 })
    assert.are.equal(3, err.index)
    local line = debug.getinfo(third, "S").linedefined
    assert.is_truthy(err.name:find("error_spec.lua:" .. line, 1, true))
    err = errors.of("task", pool.map, pool, string.rep, { {} })
    assert.are.equal("string.rep", err.name)
    assert.are.equal(1, err.index)
    err = errors.of("task", pool.map, pool, "string.rep", { {} })
    assert.are.equal("string.rep", err.name)
  end)

  it("reads well as text", function()
    local function work() error("something specific") end
    local err = errors.of("task", pool.map, pool, work, { 1 })
    assert.is_truthy(tostring(err):find("something specific", 1, true))
    assert.is_truthy(err.message:find("something specific", 1, true))
  end)

  it("may be raised again and is the same", function()
    local ok, err = pcall(pool.apply, pool, raise, { "x" })
    local again, same = pcall(error, err)
    assert.is_false(ok or again)
    assert.is_true(rawequal(err, same))
  end)

  it("carries an error object of a pool inside the task", function()
    local function nested()
      local inner <close> = luapool.Pool(1)
      inner:apply(raise, { { deep = true } })
    end
    local err = failure(nested)
    assert.is_true(errors.is("task", err.value))
    assert.is_true(err.value.value.deep)
  end)
end)

describe("an error of kind lost", function()
  leaks.guard(before_each, after_each)
  local pool
  before_each(function() pool = luapool.Pool(1) end)
  leaks.finish(function()
    pool:terminate()
    pool = nil
  end)

  for name, number in pairs { KILL = 9, SEGV = 11, ABRT = 6, TERM = 15 } do
    it("names the signal SIG" .. name, function()
      local pid = pool:stats()[1].pid
      local err = errors.of("lost", pool.apply, pool, signalled, { name })
      assert.are.equal(pid, err.pid)
      assert.are.equal(number, err.signal)
      assert.is_nil(err.exitcode)
      local text = ("killed by SIG%s (%d)"):format(name, number)
      assert.is_truthy(tostring(err):find(text, 1, true))
      local memory = tostring(err):find("possibly out of memory", 1, true)
      assert.are.equal(name == "KILL", memory ~= nil)
    end)
  end

  it("has the exit code", function()
    for _, code in ipairs { 0, 3 } do
      local err = errors.of("lost", pool.apply, pool, os.exit, { code })
      assert.are.equal(code, err.exitcode)
      assert.is_nil(err.signal)
      assert.is_truthy(tostring(err):find(tostring(code), 1, true))
    end
  end)

  it("names the item and the function", function()
    local function work(x) if x == 2 then os.exit(1) end end
    local err = errors.of("lost", pool.map, pool, work, { 1, 2, 3 }, 1)
    assert.are.equal(2, err.index)
    assert.is_truthy(err.name:find("error_spec.lua:", 1, true))
  end)
end)

describe("an error of another kind", function()
  leaks.guard(before_each, after_each)

  it("is encode: an argument, by its place", function()
    local pool <close> = luapool.Pool(1)
    local places = {
      ["cannot send a userdata (args[1])"] = { io.stdout },
      ["cannot send a userdata (args[2].a.b)"] =
        { 1, { a = { b = io.stdin } } },
      ["cannot send a coroutine (args[1][3])"] =
        { { 1, 2, coroutine.create(print) } },
    }
    for text, args in pairs(places) do
      for _, name in ipairs { "apply", "apply_async" } do
        local err = errors.of("encode", pool[name], pool, pass, args)
        assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
        assert.is_truthy(err.message:find(text, 1, true))
      end
    end
  end)

  it("is encode: an item, by its place", function()
    local pool <close> = luapool.Pool(1)
    local items = { 1, 2, { file = io.stdout } }
    local err = errors.of("encode", pool.map, pool, type, items)
    assert.is_truthy(tostring(err):find(
      "cannot send a userdata (items[3].file)", 1, true))
    assert.are.equal(3, err.index)
  end)

  it("is encode: the function, at the call of any method", function()
    local pool <close> = luapool.Pool(1)
    local unnamed = coroutine.wrap(print)
    local secret_file = io.stdout
    local function closure() return secret_file end
    for _, name in ipairs(CALLS) do
      errors.of("encode", pool[name], pool, unnamed, {})
      local err = errors.of("encode", pool[name], pool, closure,
        is_apply(name) and {} or { 1 })
      assert.is_truthy(tostring(err):find("secret_file", 1, true))
    end
  end)

  it("is encode: a result that cannot travel", function()
    local pool <close> = luapool.Pool(1)
    local function work() return { { io.stdout } } end
    local err = errors.of("encode", pool.apply, pool, work)
    assert.is_truthy(tostring(err):find("cannot send a userdata", 1, true))
    assert.are.equal(5, pool:apply(pass, { 5 }))
  end)

  it("is encode: pools and futures", function()
    local pool <close> = luapool.Pool(1)
    local future = pool:apply_async(pass)
    errors.of("encode", pool.apply, pool, pass, { pool })
    errors.of("encode", pool.apply, pool, pass, { { x = future } })
    future:wait()
  end)

  it("is encode and decode of the codec", function()
    errors.of("encode", luapool.encode, io.stdout)
    errors.of("decode", luapool.decode, "")
    errors.of("decode", luapool.decode, "garbage")
  end)

  it("is closed after close, for every call", function()
    local pool <close> = luapool.Pool(1)
    pool:close()
    for _, name in ipairs(CALLS) do
      local err = errors.of("closed", pool[name], pool, pass, {})
      assert.is_string(err.message)
    end
    errors.of("closed", pool.restart, pool)
  end)

  it("is terminated for what was pending", function()
    local pool <close> = luapool.Pool(1)
    local future = pool:apply_async(gate.sleep, { 60 })
    pool:terminate()
    local err = errors.of("terminated", future.get, future)
    assert.is_string(tostring(err))
  end)

  it("is cancelled, timeout, init or broken with a text", function()
    local pool <close> = luapool.Pool { 1, max_restarts = 0 }
    local future = pool:apply_async(gate.sleep, { 60 })
    local seen = { errors.of("timeout", future.get, future, 0) }
    future:cancel()
    seen[2] = errors.of("cancelled", future.get, future)
    seen[3] = errors.of("timeout", pool.apply, pool, gate.sleep, { 60 },
      { timeout = 0.05 })
    errors.of("lost", pool.apply, pool, os.exit, { 1 })
    seen[4] = errors.of("broken", pool.apply, pool, pass)
    for _, err in ipairs(seen) do
      assert.is_string(err.message)
      assert.is_truthy(#tostring(err) > 0)
    end
  end)
end)
