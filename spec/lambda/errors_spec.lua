-- SPDX-License-Identifier: MIT
-- What a handler can do wrong, and what the Runtime API is told of it: exactly
-- one error for each invocation, in Lambda's form, and the next event is
-- handled by a sound process.
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

-- Handlers by name; the event is the name.
local function one_of(cases)
  return ([[
    local luapool = require "luapool"
    local cases = {}
    %s
    function cases.fine() return "fine" end
    return { handler = function(name, ...) return cases[name](...) end }
  ]]):format(cases)
end

local function invoke(f, name) return f:invoke('"' .. name .. '"') end

local function still_fine(f)
  assert.are.equal('"fine"', invoke(f, "fine"):result())
end

describe("an error of a handler", function()
  lambda.guard(before_each, after_each)

  it("is posted with message, type and frames", function()
    local f = lambda.start { code = table.concat({
      "local function deeper()",
      "  error 'boom'",
      "end",
      "return { handler = function() deeper() end }",
    }, "\n") }
    local answer = f:invoke { id = "the-id", body = "{}" }
    assert.are.equal("POST", answer.method)
    assert.are.equal("/2018-06-01/runtime/invocation/the-id/error",
      answer.path)
    local body = answer:failure "LuaError"
    assert.matches("main%.lua:2: boom$", body.errorMessage)
    local frames = table.concat(body.stackTrace, "\n")
    assert.is_true(#body.stackTrace >= 2)
    assert.matches("main%.lua:2:", frames)
    assert.matches("main%.lua:4:", frames)
    for _, frame in ipairs(body.stackTrace) do
      assert.is_nil(frame:find "\n")
      assert.are_not.equal("", frame)
    end
    f:stop()
  end)

  -- name, expected message (a pattern)
  local VALUES = {
    { "nothing", "error(nil)", "^nil$" },
    { "number", "error(42, 0)", "^42$" },
    { "float", "error(1.5)", "^1%.5$" },
    { "boolean", "error(false)", "^false$" },
    { "text", "error('only text', 0)", "^only text$" },
    { "empty", "error('', 0)", "^$" },
    { "table", "error {}", "^." },
    { "list", "error {1, 2, 3}", "^." },
    { "func", "error(print)", "^function" },
    { "thread", "error(coroutine.create(print))", "^thread" },
    { "told", "error(setmetatable({}, {__tostring = function() "
      .. "return 'told' end}))", "told" },
    { "untold", "error(setmetatable({}, {__tostring = error}))", "^." },
    { "untold_text", "error(setmetatable({}, {__tostring = function() "
      .. "error 'no text' end}))", "^." },
    { "wrong_text", "error(setmetatable({}, {__tostring = function() "
      .. "return 5 end}))", "^." },
    { "hooking", "error(setmetatable({}, {__tostring = function() "
      .. "debug.sethook(function() error 'left' end, '', 1) "
      .. "return 'told' end}))", "^." },
    { "judged", "error(setmetatable({}, {__metatable = setmetatable({}, "
      .. "{__eq = error})}))", "^." },
    { "loop", "error(setmetatable({}, {__tostring = function(t) "
      .. "return tostring(t) end}))", "^." },
    { "strict", "error(setmetatable({}, {__index = function(_, k) "
      .. "error('no field ' .. tostring(k)) end}))", "^." },
    { "yielding", "error(setmetatable({}, {__tostring = coroutine.yield}))",
      "^." },
    { "locked", "error(setmetatable({}, {__metatable = false}))", "^." },
    { "overflow", "local function f() return 1 + f() end return f()",
      "stack overflow" },
    { "c_overflow", "local function f(s) return (s:gsub('.', f)) end "
      .. "return f 'x'", "overflow" },
    { "by_handler", "local t = setmetatable({}, {}) "
      .. "getmetatable(t).__index = function(_, k) return t[k] end "
      .. "return t.x", "overflow" },
    { "too_large", "return ('x'):rep(math.maxinteger)", "too large" },
    { "co", "coroutine.wrap(function() error 'in a coroutine' end)()",
      "in a coroutine" },
    { "yields", "coroutine.yield(1)", "yield" },
    { "closing", "local x <close> = setmetatable({}, {__close = function() "
      .. "error 'while closing' end}) return 1", "while closing" },
    { "closing_more", "local x <close> = setmetatable({}, {__close = "
      .. "function(_, e) error('closed after ' .. tostring(e), 0) end}) "
      .. "error('first', 0)", "^closed after first$" },
    { "typo", "local t = nil return t.field", "index a nil value" },
    { "no_text", "error('a\\xff\\xc0\\x80b\\xed\\xa0\\x80', 0)",
      "^a%?+b%?+$" }, -- ? for U+FFFD
    { "controls", "error('a\\0b\\r\\n\\27\\127c', 0)",
      "^a\0b\r\n\27\127c$" },
    { "quotes", "error('\"\\\\/', 0)", "^\"\\/$" },
  }

  it("of any value is reported, and the next event is handled", function()
    local code = {}
    for i, value in ipairs(VALUES) do
      code[i] = ("function cases.%s() %s end"):format(value[1], value[2])
    end
    local f = lambda.start { code = one_of(table.concat(code, "\n")) }
    for _, value in ipairs(VALUES) do
      local message = invoke(f, value[1]):failure "LuaError".errorMessage
      assert(message:gsub("\u{FFFD}", "?"):find(value[3]),
        ("%s: %q"):format(value[1], message))
      still_fine(f)
    end
    f:stop()
  end)

  it("of memory that runs out is reported", function()
    if lambda.sanitized then pending "the sanitizer needs address space" end
    local f = lambda.start {
      under = { "prlimit", "--as=300000000" },
      code = one_of [[
        function cases.huge() return ("x"):rep(1 << 30) end
        function cases.all()
          local t = {}
          while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end
        end
        function cases.kept()
          held = {}
          while true do held[#held + 1] = ("x"):rep(1 << 16) .. #held end
        end
        function cases.release() held = nil return "fine" end
      ]],
    }
    for _, name in ipairs { "huge", "all", "all", "kept", "release", "all" } do
      local answer = invoke(f, name)
      if name == "release" then
        assert.are.equal('"fine"', answer:result())
      else
        assert.is_truthy(answer:failure("LuaError").errorMessage
          :find("not enough memory", 1, true))
      end
    end
    still_fine(f)
    f:stop()
  end)

  it("in a finalizer harms nothing", function()
    local f = lambda.start { code = one_of [[
      function cases.garbage()
        setmetatable({}, {__gc = function() error "in a finalizer" end})
        collectgarbage()
        return 1
      end
    ]] }
    assert.are.equal("1", invoke(f, "garbage"):result())
    still_fine(f)
    f:stop()
  end)
end)

describe("the type of an error", function()
  lambda.guard(before_each, after_each)

  it("and the message are fields of a raised table", function()
    local f = lambda.start { code = one_of [[
      function cases.both()
        error {errorType = "Order.NotFound", errorMessage = "no order 7"}
      end
      function cases.kind() error {errorType = "Only.Type"} end
      function cases.message() error {errorMessage = "only a message"} end
      function cases.told()
        error(setmetatable({errorType = "Told"},
          {__tostring = function() return "told otherwise" end}))
      end
      function cases.inherited()
        local class = {errorType = "Class.Type", errorMessage = "of a class"}
        class.__index = class
        error(setmetatable({}, class))
      end
    ]] }
    local body = invoke(f, "both"):failure "Order.NotFound"
    assert.are.equal("no order 7", body.errorMessage)
    invoke(f, "kind"):failure "Only.Type"
    body = invoke(f, "message"):failure "LuaError"
    assert.are.equal("only a message", body.errorMessage)
    body = invoke(f, "told"):failure "Told"
    assert.are.equal("told otherwise", body.errorMessage)
    invoke(f, "inherited"):failure()
    f:stop()
  end)

  it("is LuaError where the field is no text", function()
    local f = lambda.start { code = one_of [[
      function cases.number() error {errorType = 5, errorMessage = 6} end
      function cases.table() error {errorType = {}, errorMessage = {}} end
      function cases.boolean() error {errorType = true} end
      function cases.half() error {errorType = 5, errorMessage = "m"} end
    ]] }
    for _, name in ipairs { "number", "table", "boolean" } do
      invoke(f, name):failure "LuaError"
    end
    assert.are.equal("m", invoke(f, "half"):failure "LuaError".errorMessage)
    still_fine(f)
    f:stop()
  end)

  it("cannot add to the headers", function()
    local types = { "A\r\nX-Evil: 1", "A\nX-Evil: 1", "A\rX-Evil: 1",
      "A\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", "A\0B", "\r\n", "\127\27",
      "\u{E9}", "a: b", " ", "", "\t", "\xff" }
    local code = {}
    for i, name in ipairs(types) do
      code[i] = ("function cases.t%d() error {errorType = %q, "
        .. "errorMessage = %q} end"):format(i, name, name)
    end
    local f = lambda.start { code = one_of(table.concat(code, "\n")) }
    for i in ipairs(types) do
      local answer = invoke(f, "t" .. i)
      assert.is_nil(answer:header "X-Evil")
      local value = answer:header "Lambda-Runtime-Function-Error-Type"
      assert(value and not value:find "[%c]", ("%d: %q"):format(i, value))
      answer:failure()
      assert.are.equal(i, #f:requests "error")
    end
    assert.are.equal(0, #f:requests "other")
    still_fine(f)
    f:stop()
  end)

  it("may be long", function()
    local f = lambda.start { code = one_of [[
      function cases.long() error {errorType = ("T"):rep(200000)} end
    ]] }
    invoke(f, "long"):failure()
    still_fine(f)
    f:stop()
  end)

  it("is the kind of a pool's error", function()
    local f = lambda.start { code = one_of [[
      local function work(how)
        if how == "die" then os.exit(3) end
        if how == "sleep" then while true do end end
        error("bad item " .. how, 0)
      end
      local pool = luapool.Pool(2)
      function cases.task() pool:map(work, {"one"}) end
      function cases.lost() pool:apply(work, {"die"}) end
      function cases.timeout()
        pool:apply(work, {"sleep"}, {timeout = 0.1})
      end
      function cases.encode() pool:apply(work, {io.stdout}) end
      function cases.closed()
        local other = luapool.Pool(1)
        other:close()
        other:apply(work, {"one"})
      end
      function cases.again()
        local ok, e = pcall(pool.map, pool, work, {"two"})
        error(e)
      end
    ]] }
    for _, kind in ipairs { "task", "lost", "timeout", "encode", "closed" } do
      invoke(f, kind):failure("luapool." .. kind)
      still_fine(f)
    end
    local body = invoke(f, "again"):failure "luapool.task"
    assert.is_truthy(body.errorMessage:find("bad item two", 1, true))
    f:stop()
  end)
end)

describe("an error's body", function()
  lambda.guard(before_each, after_each)

  -- Every alignment of the cut within a character.
  it("is cut to 64 KB between characters", function()
    local f = lambda.start { code = [[
      return { handler = function(event)
        error(("x"):rep(event.lead) .. event.text:rep(1 << 17), 0)
      end }
    ]] }
    for _, text in ipairs { "\u{E9}", "\u{20AC}", "\u{1F600}", '\\"', "\\n",
      "\\u0001", "\\\\" } do
      for lead = 0, 5 do
        local body = f:invoke(('{"lead":%d,"text":"%s"}'):format(lead, text))
          :failure "LuaError"
        assert.are.equal(("x"):rep(lead), body.errorMessage:sub(1, lead))
        assert.is_true(#body.errorMessage >= 4096, #body.errorMessage)
      end
    end
    f:stop()
  end)

  it("is cut to 64 KB where it is the frames or the type", function()
    local f = lambda.start { code = one_of [[
      function cases.frames()
        local code = "local f = ... return function() return f() .. '' end"
        local f = function() error "at the bottom" end
        for i = 1, 150 do
          f = load(code, "=" .. ("\u{20AC}"):rep(15) .. i)(f)
        end
        f()
      end
      function cases.fields()
        error {errorType = ("\u{E9}"):rep(1 << 17),
          errorMessage = ("\u{E9}"):rep(1 << 17)}
      end
    ]] }
    invoke(f, "frames"):failure "LuaError"
    invoke(f, "fields"):failure()
    still_fine(f)
    f:stop()
  end)

  it("of bytes that are no text holds U+FFFD for them", function()
    local f = lambda.start { code = one_of [[
      function cases.middle() error("a\xffb", 0) end
      function cases.cut() error("a\xe2\x82", 0) end
      function cases.field() error {errorMessage = "\xfe."} end
      function cases.large() error(("\xff"):rep(1 << 20), 0) end
      function cases.frame() load("error 'x'", "=\xff")() end
    ]] }
    local function message(name)
      return invoke(f, name):failure "LuaError".errorMessage
    end
    assert.are.equal("a\u{FFFD}b", message "middle")
    assert.matches("^a\u{FFFD}", message "cut")
    assert.are.equal("\u{FFFD}.", message "field")
    assert.matches("^\u{FFFD}\u{FFFD}", message "large")
    assert.are.equal("\u{FFFD}:1: x", message "frame")
    f:stop()
  end)
end)

describe("what a handler leaves changed", function()
  lambda.guard(before_each, after_each)

  for what, change in pairs {
    ["strict globals"] = [[
      local function refuse(_, name) error("global " .. tostring(name), 2) end
      setmetatable(_G, {__index = refuse, __newindex = refuse})
    ]],
    ["the working directory"] = "require 'lfs'.chdir '/'",
    ["a stopped collector"] = "collectgarbage 'stop'",
    ["module paths"] = "package.path, package.cpath = '', ''",
    ["the default output"] = "io.output(io.stderr)",
    ["the way random numbers go"] = "math.randomseed(1)",
    ["a hook"] = "debug.sethook(function() error 'left' end, '', 1000)",
    ["globals of the library's names"] = [[
      type, error, pcall, xpcall, tostring, tonumber, select = 1, 2, 3, 4, 5
      pairs, ipairs, next, assert, print, rawget, setmetatable = {}, {}, {}
      package, coroutine, debug, utf8, os, table = nil
    ]],
    ["its libraries"] = [[
      for _, name in ipairs {"os", "io", "debug", "coroutine", "utf8"} do
        for key in pairs(_G[name]) do _G[name][key] = nil end
      end
      for key in pairs(table) do table[key] = error end
    ]],
    ["what is loaded"] = [[
      for name in pairs(package.loaded) do
        if name:find "^luapool" then package.loaded[name] = nil end
      end
    ]],
    ["how modules are found"] = [[
      for name in pairs(package.preload) do package.preload[name] = nil end
      package.searchers, package.loaded, package.preload = {}, {}, {}
      require = nil
    ]],
    ["its output closed"] = "io.stdout:close() io.stderr:close()",
  } do
    it("does not harm what comes after: " .. what, function()
      local f = lambda.start { code = one_of(([[
        local pool, raise = luapool.Pool(2), error
        function cases.change() %s return "changed" end
        function cases.pool() return pool:map(math.abs, {-1, -2}) end
        function cases.fails() raise "raised" end
        function cases.stream(context)
          context.stream {content_type = "text/plain"}:write "streamed"
        end
        function cases.new() return #luapool.Pool(1):map(math.abs, {1}) end
      ]]):format(change)) }
      assert.are.equal('"changed"', invoke(f, "change"):result())
      for _ = 1, 2 do
        assert.are.equal("[1,2]", invoke(f, "pool"):result())
        assert.matches("raised$",
          invoke(f, "fails"):failure "LuaError".errorMessage)
        assert.are.equal("streamed", invoke(f, "stream"):result())
        assert.are.equal("1", invoke(f, "new"):result())
        f:invoke("{"):failure "Runtime.UnmarshalError"
        still_fine(f)
      end
      assert.are.equal(0, f:stop().status)
    end)
  end
end)

describe("os.exit in a handler", function()
  lambda.guard(before_each, after_each)

  for call, status in pairs {
    ["os.exit(0)"] = 0, ["os.exit(3)"] = 3, ["os.exit()"] = 0,
    ["os.exit(true)"] = 0, ["os.exit(false)"] = 1, ["os.exit(4, true)"] = 4,
    ["coroutine.wrap(function() os.exit(5) end)()"] = 5,
    ["pcall(os.exit, 6)"] = 6, ["os.exit(true, true)"] = 0,
    ["os.exit(false, true)"] = 1,
  } do
    it("leaves with its status, output and pools: " .. call, function()
      local f = lambda.start { unanswered = 1, code = [[
        local luapool = require "luapool"
        local pool = luapool.Pool(2)
        io.stdout:setvbuf "full"
        return { handler = function()
          pool:apply_async(function() while true do end end)
          pool:poll(0.05)
          io.write "last words"
          ]] .. call .. [[

        end }
      ]] }
      f:push "{}"
      local result = f:wait()
      assert.are.equal(status, result.status)
      assert.are.equal("last words", result.stdout)
      assert.are.equal(0, #f:requests "error" + #f:requests "response")
      assert.are.equal(1, #f:requests "next")
    end)
  end

  it("within a task is a worker lost", function()
    local f = lambda.start { code = one_of [[
      local pool = luapool.Pool(1)
      function cases.lost() pool:apply(os.exit, {0}) end
    ]] }
    invoke(f, "lost"):failure "luapool.lost"
    still_fine(f)
    f:stop()
  end)
end)

describe("a handler that is killed", function()
  lambda.guard(before_each, after_each)

  it("leaves no worker", function()
    local path = gate.name()
    local f = lambda.start { unanswered = 1, code = ([[
      local luapool = require "luapool"
      local gate = require "spec.support.gate"
      local pool = luapool.Pool(2)
      return { handler = function()
        gate.mark(%q)
        pool:map(gate.sleep, {60, 60})
      end }
    ]]):format(path) }
    f:push "{}"
    gate.wait(path)
    f:kill "KILL"
    assert.are.equal(137, f:wait().status)
  end)
end)
