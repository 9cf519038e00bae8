-- SPDX-License-Identifier: MIT
-- What a handler returns, as the Runtime API gets it: JSON or bytes, their type
-- and size; and that all output is out before it is posted.
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

local LIMIT = 6291556 -- bytes of a response

local function one_of(cases)
  return ([[
    local luapool = require "luapool"
    local cases = {}
    %s
    return { handler = function(name, ...) return cases[name](...) end }
  ]]):format(cases)
end

local function invoke(f, name) return f:invoke('"' .. name .. '"') end

describe("a response", function()
  lambda.guard(before_each, after_each)

  local VALUES = {
    { "nothing", "return", "null" },
    { "none", "", "null" },
    { "null", "return nil", "null" },
    { "text", "return 'text'", '"text"' },
    { "empty", "return ''", '""' },
    { "utf8", "return 'h\u{E9} \u{20AC} \u{1F600} \u{2028}'",
      '"h\u{E9} \u{20AC} \u{1F600} \u{2028}"' },
    { "json", "return '{\"a\":1}'", '"{\\"a\\":1}"' },
    { "integer", "return 7", "7" },
    { "float", "return 7.0", "7.0" },
    { "yes", "return true", "true" },
    { "no", "return false", "false" },
    { "list", "return {1, 'b', false}", '[1,"b",false]' },
    { "object", "return {a = {b = {}}}", '{"a":{"b":{}}}' },
    { "nils", "return nil, nil", "null" },
    { "more", "return 1, nil, 3", "1" },
  }

  it("is the JSON of any value", function()
    local code = {}
    for i, value in ipairs(VALUES) do
      code[i] = ("function cases.%s() %s end"):format(value[1], value[2])
    end
    local f = lambda.start { code = one_of(table.concat(code, "\n")) }
    for _, value in ipairs(VALUES) do
      local answer = invoke(f, value[1])
      assert.are.equal(value[3], answer:result())
      assert.matches("^application/json", answer:header "Content-Type")
      assert.are.equal("POST", answer.method)
      assert.matches("^/2018%-06%-01/runtime/invocation/event%-%d+/response$",
        answer.path)
      assert.is_nil(answer:header "Lambda-Runtime-Function-Error-Type")
      assert.is_nil(answer:header "Lambda-Runtime-Function-Response-Mode")
    end
    f:stop()
  end)

  it("is bytes where a content type stands beside it", function()
    local f = lambda.start { code = one_of [[
      local all = {}
      for i = 0, 255 do all[i + 1] = string.char(i) end
      function cases.bytes()
        return table.concat(all), "application/octet-stream"
      end
      function cases.image() return "\x89PNG\r\n", "image/png" end
      function cases.html()
        return "<p>\u{E9}</p>", "text/html; charset=utf-8"
      end
      function cases.empty() return "", "text/plain" end
      function cases.json() return '{"as it is": true}', "application/json" end
    ]] }
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    for name, expected in pairs {
      bytes = { table.concat(bytes), "application/octet-stream" },
      image = { "\x89PNG\r\n", "image/png" },
      html = { "<p>\u{E9}</p>", "text/html; charset=utf-8" },
      empty = { "", "text/plain" },
      json = { '{"as it is": true}', "application/json" },
    } do
      local answer = invoke(f, name)
      assert.are.equal(expected[1], answer:result())
      assert.are.same({ expected[2], 1 }, { answer:header "Content-Type" })
    end
    f:stop()
  end)

  it("with a content type that cannot be is an error", function()
    local f = lambda.start { code = one_of [[
      local types = {}
      function cases.object() return {}, "application/json" end
      function cases.number() return 5, "text/plain" end
      function cases.null() return nil, "text/plain" end
      function cases.yes() return true, "text/plain" end
      function cases.crlf() return "x", "text/plain\r\nX-Evil: 1" end
      function cases.lf() return "x", "text/plain\nX-Evil: 1" end
      function cases.cr() return "x", "text/plain\rX-Evil: 1" end
      function cases.zero() return "x", "text/plain\0" end
      function cases.escape() return "x", "text/\27plain" end
      function cases.delete() return "x", "text/\127plain" end
    ]] }
    for _, name in ipairs { "object", "number", "null", "yes", "crlf", "lf",
      "cr", "zero", "escape", "delete" } do
      local answer = invoke(f, name)
      answer:failure "Runtime.MarshalError"
      assert.is_nil(answer:header "X-Evil")
    end
    assert.are.equal(0, #f:requests "other")
    f:stop()
  end)

  it("is there once, whatever else is returned", function()
    local f = lambda.start { code = one_of [[
      function cases.gsub() return ("a"):gsub("a", "b") end
      function cases.table() return "x", {} end
      function cases.empty() return "x", "" end
    ]] }
    for _, name in ipairs { "gsub", "table", "empty" } do invoke(f, name) end
    f:stop()
  end)

  it("that JSON cannot hold is an error", function()
    local f = lambda.start { code = one_of [[
      function cases.func() return print end
      function cases.field() return {a = {b = {1, 2, print}}} end
      function cases.file() return {io.stdout} end
      function cases.thread() return coroutine.create(print) end
      function cases.nan() return 0/0 end
      function cases.inf() return {1/0} end
      function cases.minus() return {x = -1/0} end
      function cases.sparse() return {1, nil, 3} end
      function cases.far() return {[2] = 1} end
      function cases.huge() return {[1] = 1, [1 << 40] = 1} end
      function cases.zero() return {[0] = 1} end
      function cases.mixed() return {1, 2, x = 3} end
      function cases.boolean() return {[true] = 1} end
      function cases.fraction() return {[1.5] = 1} end
      function cases.key() return {[{}] = 1} end
      function cases.bytes() return "a\xff" end
      function cases.bytes_in_key() return {["a\xff"] = 1} end
      function cases.cycle() local t = {} t.t = t return t end
      function cases.self() local t = {} t[1] = t return t end
      function cases.pool() return luapool.Pool(1) end
      function cases.fine() return "fine" end
    ]] }
    for _, name in ipairs { "func", "field", "file", "thread", "nan", "inf",
      "minus", "sparse", "far", "huge", "zero", "mixed", "boolean", "fraction",
      "key", "bytes", "bytes_in_key", "cycle", "self", "pool" } do
      local body = invoke(f, name):failure "Runtime.MarshalError"
      assert.are_not.equal("", body.errorMessage)
      assert.are.equal('"fine"', invoke(f, "fine"):result())
    end
    local body = invoke(f, "field"):failure "Runtime.MarshalError"
    assert.is_truthy(body.errorMessage:find("a.b[3]", 1, true),
      body.errorMessage)
    f:stop()
  end)
end)

describe("the size of a response", function()
  lambda.guard(before_each, after_each)

  local f

  -- A response of so many bytes on the wire.
  local SIZED = [[
    return { handler = function(event)
      if event.kind == "bytes" then
        return ("x"):rep(event.size), "application/octet-stream"
      elseif event.kind == "escaped" then
        return ("\n"):rep((event.size - 2) // 2) .. ("x"):rep(event.size % 2)
      end
      return ("x"):rep(event.size - 2)
    end }
  ]]

  local function sized(kind, size)
    return f:invoke(('{"kind":"%s","size":%d}'):format(kind, size))
  end

  for _, kind in ipairs { "text", "bytes", "escaped" } do
    it("may be 6,291,556 bytes and not one more: " .. kind, function()
      f = lambda.start { code = SIZED }
      assert.are.equal(LIMIT, #sized(kind, LIMIT):result())
      local body = sized(kind, LIMIT + 1)
        :failure "Function.ResponseSizeTooLarge"
      local digits = body.errorMessage:gsub("%d[%d,._]*%d", function(number)
        return (number:gsub("%D", ""))
      end)
      assert.is_truthy(digits:find "6291557", body.errorMessage)
      assert.is_truthy(digits:find "6291556", body.errorMessage)
      assert.is_true(#f:requests("error")[1]:text() < 1000)
      assert.are.equal(LIMIT, #sized(kind, LIMIT):result())
      -- Nothing of it was sent.
      assert.are.equal(2, #f:all { what = "head", kind = "response" })
      f:stop()
    end)
  end

  it("far beyond is an error as well", function()
    f = lambda.start { code = SIZED }
    sized("bytes", 64 << 20):failure "Function.ResponseSizeTooLarge"
    sized("text", 64 << 20):failure "Function.ResponseSizeTooLarge"
    assert.are.equal(10, #sized("bytes", 10):result())
    f:stop()
  end)
end)

describe("output", function()
  lambda.guard(before_each, after_each)

  local HOLD = { { at = "response", delay = 0.3 }, { at = "error", delay = 0.3 }
  }

  -- Pushes an event and returns what is out while its answer is on its way.
  local function out_at_answer(f, kind, event)
    f:push(event)
    f:wait_for { what = "head", kind = kind }
    return f:stdout(), f:stderr()
  end

  it("is out before the response", function()
    local f = lambda.start { faults = HOLD, code = [[
      io.stdout:setvbuf "full"
      io.stderr:setvbuf "full"
      return { handler = function(text)
        io.write(text)
        io.stderr:write(text)
        return 1
      end }
    ]] }
    local out, err = out_at_answer(f, "response", '"no end of line"')
    assert.are.equal("no end of line", out)
    assert.is_truthy(err:find("no end of line", 1, true))
    f:wait_idle()
    f:stop()
  end)

  it("is out before an error", function()
    local f = lambda.start { faults = HOLD, code = [[
      io.stdout:setvbuf "full"
      return { handler = function(text) io.write(text) error "x" end }
    ]] }
    assert.are.equal("no end of line",
      (out_at_answer(f, "error", '"no end of line"')))
    f:wait_idle()
    f:stop()
  end)

  it("is out before a stream's first byte and before its end", function()
    local f = lambda.start { faults = HOLD, code = [[
      io.stdout:setvbuf "full"
      return { handler = function(text, context)
        local out = context.stream {content_type = "text/plain"}
        out:write "x"
        io.write(text)
      end }
    ]] }
    f:push '"no end of line"'
    f:wait_request "response"
    assert.are.equal("no end of line", f:stdout())
    f:wait_idle()
    f:stop()
  end)

  it("of a task is out when its result is", function()
    local f = lambda.start { faults = HOLD, code = [[
      local luapool = require "luapool"
      local pool = luapool.Pool(2)
      local function work(text)
        io.stdout:setvbuf "full"
        io.write(text)
        return text
      end
      return { handler = function(event) return pool:map(work, event, 1) end }
    ]] }
    local out = out_at_answer(f, "response", '["aa","bb","cc","dd"]')
    for _, text in ipairs { "aa", "bb", "cc", "dd" } do
      assert.is_truthy(out:find(text, 1, true), out)
    end
    f:wait_idle()
    f:stop()
  end)

  it("of a task that fails is out too", function()
    local f = lambda.start { faults = HOLD, code = [[
      local luapool = require "luapool"
      local function work(text) io.write(text) error "x" end
      return { handler = function(text) luapool.apply(work, {text}) end }
    ]] }
    assert.are.equal("no end of line",
      (out_at_answer(f, "error", '"no end of line"')))
    f:wait_idle()
    f:stop()
  end)

  it("by print passes unchanged", function()
    local f = lambda.start { code = [[
      return { handler = function(event)
        print("a\tb", nil, 5, 5.0)
        print "{\"not\":\"touched\"}"
        io.write(event, "\n")
      end }
    ]] }
    f:invoke '"\\u20ac \\u0001"'
    assert.are.equal('a\tb\tnil\t5\t5.0\n{"not":"touched"}\n\u{20AC} \1\n',
      f:stop().stdout)
  end)

  it("that nobody takes harms no event", function()
    local path = gate.name()
    local f = lambda.start { code = ([[
      local gate = require "spec.support.gate"
      return { handler = function(event)
        io.stdout:close()
        gate.mark(%q)
        return event
      end }
    ]]):format(path) }
    assert.are.equal("1", f:invoke("1"):result())
    f:push "2"
    f:wait_answer "event-2"
    f:stop()
  end)
end)
