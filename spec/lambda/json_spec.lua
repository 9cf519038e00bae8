-- SPDX-License-Identifier: MIT
-- JSON as handlers see it, both ways and byte for byte: what an event says is
-- what an echo says, directly and through the tasks of a pool; what is no JSON
-- is an error, and the next event is handled.
local lambda = require "spec.support.lambda.function"

local CODE = [[
  local cjson = require "cjson"
  local luapool = require "luapool"
  local cases, pool = {}, nil
  local function same(x) return x end
  local function one_pool() pool = pool or luapool.Pool(2) return pool end

  function cases.echo(value) return value end
  function cases.apply(value) return one_pool():apply(same, {value}) end
  function cases.map(value) return one_pool():map(same, value) end
  function cases.types(list)
    local t = {}
    for i, v in ipairs(list) do t[i] = math.type(v) or type(v) end
    return table.concat(t, " ")
  end
  function cases.text(list)
    local t = {}
    for i, v in ipairs(list) do t[i] = string.format("%q", v) end
    return table.concat(t, " ")
  end
  function cases.null(value)
    return value.a == cjson.null and value.a ~= nil
      and value.list[2] == cjson.null and #value.list == 3
  end
  function cases.null_in_task(value)
    return one_pool():apply(function(v)
      return v.a == require "cjson".null
    end, {value})
  end
  function cases.emptied(value)
    table.remove(value)
    return value
  end
  function cases.built()
    local list, sum = {}, 0.1 + 0.2
    return {new = {}, list = {list, {list}}, sum = sum, null = cjson.null}
  end
  function cases.number(text) return load("return " .. text)() end
  function cases.deep(case)
    local value = case.object and {} or 1
    for i = 1, case.depth - (case.object and 1 or 0) do
      value = case.object and {a = value} or {value}
    end
    return value
  end
  function cases.length(value) return #value end
  function cases.append(list) list[#list + 1] = cjson.null return list end

  local M = {}
  for name, case in pairs(cases) do M[name] = case end
  return M
]]

-- A function whose handler is that case; it is stopped by the test.
local function start(case, opts)
  opts = opts or {}
  opts.code, opts.handler = CODE, "main." .. case
  return lambda.start(opts)
end

-- Each text must come back as it is, or as the second one says.
local function same(case, list)
  local f = start(case)
  for _, text in ipairs(list) do
    local given, expected = text, text
    if type(text) == "table" then given, expected = text[1], text[2] end
    assert.are.equal(expected, f:invoke(given):result())
  end
  f:stop()
end

describe("numbers", function()
  lambda.guard(before_each, after_each)

  it("that are whole and fit 64 bits are integers", function()
    same("echo", { "0", "1", "-1", "9007199254740993", "-9007199254740993",
      "9223372036854775807", "-9223372036854775808", { "-0", "0" },
      "[1,2,3]", '{"a":10000000000000001}' })
  end)

  it("with a fraction stay floats, and what they are", function()
    same("echo", { "1.0", "-1.0", "0.5", "0.1", "0.30000000000000004", "-0.0",
      "3.141592653589793", "0.0", "100.25", "-0.001", "123456.789" })
  end)

  it("have the type they are written with", function()
    local f = start "types"
    assert.are.equal('"integer float float float integer integer float float"',
      f:invoke("[1,1.0,1e2,-0.0,-0,9223372036854775807,9223372036854775808,"
        .. "-9223372036854775809]"):result())
    f:stop()
  end)

  it("are read exactly", function()
    local f = start "text"
    local function read(text)
      return load("return " .. f:invoke("[" .. text .. "]"):json())()
    end
    for _, text in ipairs { "0.1", "1e23", "9007199254740993.0", "5e-324",
      "2.2250738585072011e-308", "1.7976931348623157e308", "123456789.125e-3",
      "0.3", "8.41", "1e-7", "4.35", "1e22", "179769313486231570000.0",
      "2.4703282292062328e-324", "1E5", "1e+5", "1e0" } do
      local value = read(text)
      assert.are.equal("float", math.type(value), text)
      assert.are.equal(tonumber(text), value, text)
    end
    assert.are.equal(0.0, read "1e-400")
    assert.are.equal(math.mininteger, read "-9223372036854775808")
    f:stop()
  end)

  it("are written to read back the same", function()
    local f = start "number"
    for _, text in ipairs { "0.1 + 0.2", "1/3", "2^53", "2^63", "1e100",
      "5e-324", "1.0", "100.0", "1e15", "1e16", "1e17", "123456789012345678.0",
      "-2^63", "1e-5", "math.pi", "2^1023 * 1.9999999999999998", "-0.0" } do
      local value = load("return " .. text)()
      local written = f:invoke('"' .. text .. '"'):result()
      assert.matches("^%-?%d", written)
      assert(written:find "[.eE]", written .. " reads as an integer")
      assert.are.equal(value, tonumber(written))
      assert.are.equal(1 / value, 1 / tonumber(written))
      assert.is_true(#written <= 24, written)
    end
    for _, text in ipairs { "math.maxinteger", "math.mininteger", "1 << 53" } do
      local value = load("return " .. text)()
      assert.are.equal(tostring(value), f:invoke('"' .. text .. '"'):result())
    end
    f:stop()
  end)

  it("too large for a float are errors", function()
    local f = start "echo"
    for _, text in ipairs { "1e400", "-1e400", "[1e309]", ("9"):rep(400),
      '{"a":{"b":-1e999999999}}', "1.8e308" } do
      f:invoke(text):failure "Runtime.UnmarshalError"
    end
    assert.are.equal("1.0", f:invoke("1.0"):result())
    f:stop()
  end)

  it("too large for an integer are floats", function()
    local f = start "echo"
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809",
      "123456789012345678901234567890", ("9"):rep(300) } do
      local written = f:invoke(text):result()
      assert(written:find "[.eE]", written)
      assert.are.equal(tonumber(text .. ".0"), tonumber(written))
    end
    f:stop()
  end)
end)

describe("null, lists and objects", function()
  lambda.guard(before_each, after_each)

  local SHAPES = { "[]", "{}", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}',
    "[null]", "[null,null]", "[1,null,3]", "[1,null]", "[[],[],{}]",
    '{"a":[[],[[]]]}', "[false,true]", '""', "[[1,2],[3,[4]]]" }

  for _, case in ipairs { "echo", "apply" } do
    it("stay what they are: " .. case, function()
      same(case, SHAPES)
      same(case, { "null", "true", "false" })
    end)
  end

  it("stay what they are as items of map", function()
    same("map", { "[[],{},[[]]]", "[null,[null],1]", '[{"a":[]}]' })
  end)

  it("null is cjson's", function()
    local f = start "null"
    assert.are.equal("true",
      f:invoke('{"a":null,"list":[1,null,3]}'):result())
    f:stop()
    f = start "null_in_task"
    assert.are.equal("true", f:invoke('{"a":null}'):result())
    f:stop()
  end)

  it("a list that was emptied is one, a new table is none", function()
    same("emptied", { { "[1]", "[]" }, { "[1,2]", "[1]" } })
    same("append", { { "[]", "[null]" }, { "[1]", "[1,null]" } })
    local f = start "built"
    local answer = f:invoke "{}"
    local text, value = answer:result(), answer:json()
    assert.is_truthy(text:find('"new":{}', 1, true), text)
    assert.is_truthy(text:find('"list":[{},[{}]]', 1, true), text)
    assert.is_truthy(text:find('"sum":0.30000000000000004', 1, true), text)
    assert.is_truthy(text:find('"null":null', 1, true), text)
    assert.are.equal(0.1 + 0.2, value.sum)
    f:stop()
  end)

  it("may be long", function()
    local f = start "length"
    assert.are.equal("500000",
      f:invoke("[" .. ("null,"):rep(499999) .. "null]"):result())
    f:stop()
  end)

  it("may have any keys", function()
    same("echo", { '{"":1}', '{"1":2}', '{"a\\u0000b":1}', '{"\u{E9}":1}',
      '{"__index":1}', '{"n":5}', { '{"\\u0061":1}', '{"a":1}' },
      { '{ "a" : 1 }', '{"a":1}' } })
  end)
end)

describe("depth", function()
  lambda.guard(before_each, after_each)

  local function nested(n, inner)
    return ("["):rep(n) .. (inner or "") .. ("]"):rep(n)
  end

  local function objects(n)
    return ('{"a":'):rep(n - 1) .. "{}" .. ("}"):rep(n - 1)
  end

  it("may be 1000 in an event and its echo, and not one more", function()
    local f = start "echo"
    for _, make in ipairs { nested, objects } do
      assert.are.equal(make(1000), f:invoke(make(1000)):result())
      f:invoke(make(1001)):failure "Runtime.UnmarshalError"
    end
    assert.are.equal(nested(1000, "1"), f:invoke(nested(1000, "1")):result())
    f:invoke(nested(1001, "1")):failure "Runtime.UnmarshalError"
    for _, text in ipairs { nested(1000000), ("["):rep(3000000),
      ('{"a":'):rep(500000), ('[{"a":'):rep(300000) } do
      f:invoke(text):failure "Runtime.UnmarshalError"
    end
    assert.are.equal("1", f:invoke("1"):result())
    f:stop()
  end)

  it("may be 1000 in a result, and not one more", function()
    local f = start "deep"
    assert.are.equal(nested(1000, "1"),
      f:invoke('{"depth":1000}'):result())
    f:invoke('{"depth":1001}'):failure "Runtime.MarshalError"
    assert.are.equal(objects(1000),
      f:invoke('{"depth":1000,"object":true}'):result())
    f:invoke('{"depth":1001,"object":true}'):failure "Runtime.MarshalError"
    f:invoke('{"depth":1000000}'):failure "Runtime.MarshalError"
    assert.are.equal("1", f:invoke('{"depth":0}'):result())
    f:stop()
  end)
end)

describe("strings", function()
  lambda.guard(before_each, after_each)

  it("keep every character, unescaped where they may be", function()
    same("echo", { '"h\u{E9}\u{20AC}\u{1F600}"', '"\u{10FFFF}"',
      '"\u{2028}\u{2029}"', '"\\"\\\\"', '"a\\u0000b"', '"\u{FEFF}"',
      '"\u{FFFF}"',
      { '"\\ud83d\\ude00"', '"\u{1F600}"' }, { '"\\u00e9"', '"\u{E9}"' },
      { '"\\/"', '"/"' }, { '"\\u002f\\u0041"', '"/A"' } })
  end)

  it("escape what must be", function()
    local f = start "echo"
    for byte = 0, 31 do
      local answer = f:invoke(('"x\\u%04x"'):format(byte))
      assert.is_nil(answer:result():find "%c")
      assert.are.equal("x" .. string.char(byte), answer:json())
    end
    for escape, byte in pairs { b = "\b", f = "\f", n = "\n", r = "\r",
      t = "\t" } do
      assert.are.equal(byte, f:invoke('"\\' .. escape .. '"'):json())
    end
    f:stop()
  end)

  it("that are no UTF-8 are errors", function()
    local f = start "echo"
    for _, bytes in ipairs { "\xff", "\x80", "\xc0\x80", "\xc1\xbf",
      "\xe0\x80\x80", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80",
      "\xf0\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xc3", "\xe2\x82",
      "\xf0\x9f\x98", "\xfe", "\xc3(" } do
      for _, form in ipairs { '"%s"', '"x%sy"', '{"%s":1}', '[["%s"]]' } do
        f:invoke((form:gsub("%%s", bytes))):failure "Runtime.UnmarshalError"
      end
    end
    assert.are.equal('"\u{E9}"', f:invoke('"\u{E9}"'):result())
    f:stop()
  end)

  it("of half a pair are answered, and in UTF-8", function()
    local f = start "echo"
    for _, text in ipairs { '"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"',
      '"\\ud800x"', '"\\ud800\\u0041"', '"\\udc00\\ud800"' } do
      local answer = f:invoke(text)
      assert.is_truthy(utf8.len(answer:text()), answer:text())
      if answer.kind == "error" then
        answer:failure "Runtime.UnmarshalError"
      end
    end
    f:stop()
  end)
end)

describe("what is no JSON", function()
  lambda.guard(before_each, after_each)

  it("is an error", function()
    local f = start "echo"
    for _, text in ipairs { "NaN", "nan", "Infinity", "-Infinity", "inf",
      "-inf", "undefined", "nil", "None", "True", "TRUE", "tru", "nul", "nulll",
      "'a'", "[1,]", '{"a":1,}', "[,1]", "[1,,2]", "{,}", "{a:1}", '{"a"}',
      '{"a":}', '{"a":1 "b":2}', "[1 2]", "{1:2}", '{"a":1', "[1", '"a', "]",
      "}", "[1}", '{"a":1]', "// x\n1", "/* x */1", "1 // x", "# x", "01",
      "-01", "00",
      "+1", ".5", "-.5", "1.", "1.e1", "1e", "1e+", "-", "--1", "0x10",
      "0b1", "1_000", "1,000", "1 2", "1x", "[1]x", "{} {}", "null null",
      '"a" "b"', '"\\x41"', '"\\u12"', '"\\u12g4"', '"\\U0041"', '"\\a"',
      '"\\"', '"\\', '"\t"', '"\n"', '"a\0b"', '"\1"', '"\31"', "1\0", "\0001",
      "[\0]", "1\0garbage", '"a"\0', "\f1", "\v1", "\u{A0}1", "\xa01", "[1]\0",
      "=1", "return 1", "1;", ":", ",", "1e5.5", "1.2.3", "1-2", "e5", "- 1",
      "1 e5", "0 .5", "truefalse", '{"a"::1}', '{"a":1:2}', "[]]", "{}}",
      "\u{201C}a\u{201D}", "``", "<x/>", "-Infinityx", "-a" } do
      local answer = f:invoke(text)
      assert(answer.kind == "error", ("%q was taken for JSON"):format(text))
      answer:failure "Runtime.UnmarshalError"
    end
    assert.are.equal("1", f:invoke("1"):result())
    f:stop()
  end)

  it("is not space around it", function()
    same("echo", { { " \t\r\n1 \t\r\n", "1" }, { "[ 1 ,\n2\t]", "[1,2]" },
      { "{ }", "{}" }, { "[ ]", "[]" }, { "\n\n\"a\"\n", '"a"' } })
  end)
end)
