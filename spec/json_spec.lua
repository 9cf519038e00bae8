-- SPDX-License-Identifier: MIT
-- JSON, of which a module of stock Lua has nothing: RFC 8259 to the letter,
-- numbers exactly, arrays that stay arrays.
local there, json = pcall(require, "luapool.json")
if not there then
  describe("JSON", function() pending "is built into the host" end)
  return
end

local luapool = require "luapool"
local command = require "spec.support.command"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"
local null, encode, decode = json.null, json.encode, json.decode

local function back(text)
  local value, message = decode(text)
  assert(message == nil, message)
  return assert(encode(value))
end

local function refused(text, message)
  local value, got = decode(text)
  assert.is_nil(value)
  assert.matches("^cannot decode JSON: .* %(byte %d+%)$", got)
  if message then assert.matches(message, got, 1, true) end
end

local function unwritable(value, message)
  local text, got = encode(value)
  assert.is_nil(text)
  assert.are.equal("cannot encode " .. message, got)
end

-- What decode takes and refuses, by name. The judge looks at them too.
local good = {
  ["true"] = "true", ["false"] = "false", null = "null", zero = "0",
  minus_zero = "-0", minus_zero_point = "-0.0", one_point = "1.0",
  empty_string = '""', empty_array = "[]", empty_object = "{}",
  spaced_array = "[ ]", spaced_object = "{ }", nested_empty = "[[],{},[[]]]",
  all_spaces = " \t\n\r[\t1\n,\r2 ] \n", integer = "123", negative = "-123",
  exponent = "1e2", exponent_plus = "1E+2", exponent_minus = "1e-2",
  exponent_zeros = "1e0002", zero_exponent = "0e1", zero_exponent_plus = "0e+1",
  fraction = "123.456", fraction_exponent = "123.456e-78",
  most = "9223372036854775807", least = "-9223372036854775808",
  behind_most = "9223372036854775808", below_least = "-9223372036854775809",
  behind_double = "9007199254740993", twenty_digits = "12345678901234567890",
  largest = "1.7976931348623157e308", denormal = "5e-324",
  underflow = "1e-400", underflow_negative = "-123e-10000000",
  many_digits = "1" .. ("0"):rep(300), small = "0." .. ("0"):rep(400) .. "1",
  long_fraction = "0.1" .. ("0"):rep(2000) .. "1",
  tenth = "0.1", sum = "0.30000000000000004",
  string = '"abc"', escapes = [["\"\\\/\b\f\n\r\t"]], nul = [["a\u0000b"]],
  unicode = '"\u{e9}\u{20ac}\u{1f600}"', escaped_unicode = [["\u00e9\u20AC"]],
  pair = [["\ud83d\ude00"]], pair_upper = [["\uD83D\uDE00"]],
  last_pair = [["\udbff\udfff"]], first_pair = [["\ud800\udc00"]],
  backslash_u = [["\\ud800"]], backslashes_u = [["\\\\ud800"]],
  near_surrogates = [["\ud7ff\ue000"]], noncharacter = [["\uffff"]],
  bom_in_string = '"\u{feff}"', line_separators = '"\u{2028}\u{2029}"',
  del = '"\127"', c1 = '"\u{80}"', first_of_each = '"\u{7ff}\u{800}\u{10000}"',
  last = '"\u{10ffff}"', around_surrogates = '"\u{d7ff}\u{e000}"',
  slash = '"a/b"', comment_in_string = [["a/*b*/c//d"]],
  object = '{"a":1,"b":[2]}', empty_key = '{"":0}', nul_key = [[{"\u0000":1}]],
  twice = '{"a":1,"a":2}', twice_alike = '{"a":1,"a":1}',
  twice_null = '{"a":1,"a":null}', twice_escaped = [[{"a":1,"\u0061":2}]],
  long_key = '{"' .. ("x"):rep(1000) .. '":1}', nulls = "[null,null]",
  object_spaces = ' { "a" : 1 , "b" : 2 } ', array_of_all =
    '[1,-2.5,"x",true,false,null,{},[]]',
  long_string = '"' .. ("y"):rep(70000) .. '"',
  long_escaped = '"' .. ("\\n\\u00e9"):rep(9000) .. '"',
  deep = ("["):rep(1000) .. ("]"):rep(1000),
  deep_objects = ('{"a":'):rep(1000) .. "1" .. ("}"):rep(1000),
}
for _, n in ipairs { 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000 } do
  local list, map = {}, {}
  for i = 1, n do
    list[i] = ("%d"):format(i)
    map[i] = ('"k%d":%d'):format(i % 900, i)
  end
  good["array_of_" .. n] = "[" .. table.concat(list, ",") .. "]"
  good["object_of_" .. n] = "{" .. table.concat(map, ",") .. "}"
end

local bad = {
  nothing = "", spaces = "  \n", bom = "\u{feff}[]", half_a_bom = "\xef\xbb[]",
  utf16 = "[\0\"\0a\0\"\0]\0", trailing = "[] x", two_values = "1 2",
  two_arrays = "[][]", trailing_bracket = "[]]", trailing_comma = "[1,]",
  trailing_brace = "{}}",
  trailing_quote = '0"', trailing_string = '[1] "a',
  trailing_whole_string = '[1] "a"', trailing_word = "[1] tru",
  trailing_minus = "{} -", trailing_escape = '1 "\\', trailing_point = "1 1.",
  only_comma = "[,]", leading_comma = "[,1]",
  two_commas = "[1,,2]", no_comma = "[1 2]", no_comma_strings = '["a" "b"]',
  unclosed_array = "[1", unclosed_empty = "[", unclosed_comma = "[1,",
  unclosed_object = '{"a":1', unclosed_brace = "{", only_close = "]",
  wrong_close = "[1}", wrong_close_object = '{"a":1]', comma = ",", colon = ":",
  no_value = '{"a":}', no_value_end = '{"a":', no_colon = '{"a" 1}',
  no_colon_end = '{"a"', only_key = '{"a"}', two_colons = '{"a"::1}',
  comma_for_colon = '{"a",1}', object_trailing_comma = '{"a":1,}',
  object_two_commas = '{"a":1,,"b":2}', object_leading_comma = '{,"a":1}',
  number_key = "{1:1}", bare_key = "{a:1}", single_quote_key = "{'a':1}",
  null_key = "{null:1}", array_key = "{[]:1}", colon_in_array = '["a":1]',
  single_quotes = "'a'", unclosed_string = '"a', unclosed_escape = '"a\\',
  only_quote = '"', escaped_quote = '"\\"', bare_word = "abc",
  capital_true = "True", capital_null = "NULL", true_short = "tru",
  null_short = "nul", true_long = "truex", nan = "NaN", minus_nan = "-NaN",
  infinity = "Infinity", minus_infinity = "-Infinity", inf = "inf",
  undefined = "undefined", leading_zero = "01", leading_zeros = "000",
  minus_leading_zero = "-01", minus = "-", two_minuses = "--1", plus = "+1",
  minus_space = "- 1", point = ".", no_integer = ".5", minus_point = "-.5",
  no_fraction = "1.", no_fraction_list = "[1.]", no_fraction_exponent = "1.e1",
  zero_no_fraction = "0.", two_points = "1.2.3", exponent_end = "1e",
  exponent_plus_end = "1e+", exponent_minus_end = "1e-",
  two_exponents = "1e1e1",
  exponent_fraction = "1e1.5", only_exponent = "e1", hex = "0x1F",
  hex_float = "0x1p3", octal = "0o7", underscore = "1_000", suffix = "1f",
  long_suffix = "1L", space_in_number = "1 000", comma_in_number = "1,5",
  full_width = "\u{ff11}", overflow = "1e400", overflow_negative = "-1e400",
  overflow_digits = ("9"):rep(400), overflow_list = "[1e309]",
  overflow_fraction = "1" .. ("0"):rep(309) .. ".0",
  overflow_exponent = "1e99999999999999999999",
  control = '"a\1b"', nul = '"a\0b"', tab = '"a\tb"', newline = '"a\nb"',
  return_ = '"a\rb"', unit_separator = '"\x1f"', control_key = '{"a\nb":1}',
  nul_outside = "[1]\0", nul_inside = "[\0]", form_feed = "[\f1]",
  vertical_tab = "[\v1]", no_break_space = "[\u{a0}1]", only_nul = "\0",
  line_separator = "[\u{2028}1]", bell = "\a1", del_outside = "[\127]",
  escape_x = [["\x41"]], escape_a = [["\a"]], escape_0 = [["\0"]],
  escape_quote = [["\'"]], escape_space = [["\ "]], escape_U = [["\U0041"]],
  escape_newline = '"\\\n"', escape_byte = '"\\\u{e9}"', escape_nul = '"\\\0"',
  escape_outside = [[\u0031]], escape_outside_list = [=[[\n]]=],
  short_u = [["\u004"]], short_u_end = [["\u004]], no_u = [["\u"]],
  bad_u = [["\u00g1"]], braces_u = [["\u{41}"]], space_u = [["\u 041"]],
  sign_u = [["\u+041"]], high_alone = [["\ud800"]],
  high_text = [["\ud800abcdef"]],
  high_high = [["\ud800\ud800"]], high_bmp = [["\ud800\u0041"]],
  high_escape = [["\ud800\n"]], high_short = [["\ud800\udc0"]],
  high_cut = [["\ud800\u]], high_backslash = [["\ud800\\udc00"]],
  low_alone = [["\udc00"]], low_high = [["\udc00\ud800"]],
  low_last = [["\udfff"]],
  high_key = [[{"\ud800":1}]], high_after_backslash = [["\\\ud800"]],
  byte_ff = '"\xff"', byte_80 = '"\x80"', byte_c0 = '"\xc0\xaf"',
  byte_fe = '"\xfe"', overlong_2 = '"\xc1\xbf"', overlong_3 = '"\xe0\x80\xaf"',
  overlong_3_last = '"\xe0\x9f\xbf"', overlong_4 = '"\xf0\x80\x80\xaf"',
  overlong_4_last = '"\xf0\x8f\xbf\xbf"', overlong_nul = '"\xc0\x80"',
  surrogate = '"\xed\xa0\x80"', surrogate_last = '"\xed\xbf\xbf"',
  surrogate_pair = '"\xed\xa0\xbd\xed\xb8\x80"',
  behind_last = '"\xf4\x90\x80\x80"',
  five_bytes = '"\xf8\x88\x80\x80\x80"', cut_2 = '"\xc3"', cut_3 = '"\xe2\x82"',
  cut_4 = '"\xf0\x9f\x98"', cut_end = '"\xf0\x9f\x98', latin1 = '"\xe9t\xe9"',
  bad_key = '{"\xff":1}', bad_outside = "[\xff]", bad_after = "[] \xff",
  bad_third = '"\xe2\x82\x28"', bad_fourth = '"\xf0\x9f\x98\x28"',
  comment = "[1/*a*/]", line_comment = "[1] // a", comment_start = "/**/1",
  hash_comment = "[1] # a", only_slash = "/", sequence = "1\n2",
  too_deep = ("["):rep(1001) .. ("]"):rep(1001),
  too_deep_objects = ('{"a":'):rep(1001) .. "1" .. ("}"):rep(1001),
  open_deep = ("["):rep(100000), open_objects = ('[{"":'):rep(50000),
  tag = "<null>", star = "*", bracket_string = '["a',
}

describe("decode", function()
  it("gives values", function()
    assert.are.same({ 1, -2.5, "x", true, false, null, {}, {} },
      decode(good.array_of_all))
    assert.are.same({ a = 1, b = { 2 } }, decode(good.object))
    assert.is_true(null == decode "null")
    assert.is_false(decode "false")
    assert.are.equal("a\0b", decode(good.nul))
    assert.are.equal(1, decode(good.nul_key)["\0"])
    assert.are.equal("\u{1f600}", decode(good.pair))
    assert.are.equal([[\ud800]], decode(good.backslash_u))
    assert.are.equal("\u{d7ff}\u{e000}", decode(good.near_surrogates))
    assert.are.equal(("\n\u{e9}"):rep(9000), decode(good.long_escaped))
    for name, text in pairs(good) do
      local _, message = decode(text)
      assert(message == nil, name)
    end
  end)

  it("tells integers from floats", function()
    for text, value in pairs {
      ["0"] = 0, ["-0"] = 0, ["7"] = 7, ["-12"] = -12,
      ["9007199254740993"] = 9007199254740993,
      ["9223372036854775807"] = math.maxinteger,
      ["-9223372036854775808"] = math.mininteger,
      ["0.0"] = 0.0, ["-0.0"] = -0.0, ["1.0"] = 1.0, ["1e2"] = 100.0,
      ["1E-2"] = 0.01, ["9223372036854775808"] = 2.0 ^ 63,
      ["-9223372036854775809"] = -2.0 ^ 63, ["18446744073709551616"] = 2.0 ^ 64,
      ["0.30000000000000004"] = 0.1 + 0.2, ["1e-400"] = 0.0,
    } do
      local got = decode(text)
      assert.are.equal(math.type(value), math.type(got))
      assert.are.equal(value, got)
      assert.are.equal(1 / value, 1 / got)
    end
  end)

  it("refuses all that RFC 8259 does not have", function()
    for name, text in pairs(bad) do
      local value, message = decode(text)
      assert(value == nil and message, name)
      refused(text)
    end
  end)

  it("says what is wrong, and at which byte", function()
    for text, message in pairs {
      [""] = "premature EOF (byte 1)", ["[1,2"] = "premature EOF (byte 5)",
      ["1."] = "a digit is required after the decimal point (byte 3)",
      ["[1,]"] = "unallowed token at this point in JSON text (byte 4)",
      ["[1] x"] = "trailing garbage (byte 5)", ['[1] "a'] =
        "trailing garbage (byte 7)",
      ["[\1]"] = "a control character (byte 2)",
      ['"ab\xff"'] = "invalid UTF-8 (byte 4)",
      [ [["a\ud800b"]] ] = "half a surrogate pair (byte 3)",
      [ [["a\xb"]] ] = "(byte 4)", ["[1, 1e400]"] =
        "number out of range (byte 5)", ["-1e999"] =
        "number out of range (byte 1)", [bad.too_deep] =
        "more than 1000 levels of arrays and objects (byte 1001)",
    } do
      refused(text, message)
    end
  end)

  it("is quick to refuse depth", function()
    local start = os.clock()
    refused(("["):rep(6 << 20), "(byte 1001)")
    refused(('{"a":['):rep(1 << 20), "levels")
    assert.is_true(os.clock() - start < 0.5)
  end)

  it("wants a string", function()
    assert.has_error(function() decode() end,
      "bad argument #1 to 'decode' (string expected, got no value)")
    assert.has_error(function() decode {} end,
      "bad argument #1 to 'decode' (string expected, got table)")
  end)
end)

describe("encode", function()
  it("writes floats so that they read back", function()
    for text, value in pairs {
      ["1.0"] = 1.0, ["-0.0"] = -0.0, ["0.0"] = 0.0, ["0.1"] = 0.1,
      ["0.30000000000000004"] = 0.1 + 0.2, ["100.0"] = 1e2,
      ["9007199254740992.0"] = 2.0 ^ 53, ["1e+15"] = 1e15, ["1e+300"] = 1e300,
      ["100000000000000.0"] = 1e14, ["-2.5"] = -2.5, ["0.0001"] = 1e-4,
      ["1e-05"] = 1e-5, ["123456.789"] = 123456.789,
      ["9.223372036854776e+18"] = 2.0 ^ 63,
      ["1.7976931348623157e+308"] = 0x1.fffffffffffffp1023,
      ["0.999999999999999"] = 0.999999999999999,
    } do
      assert.are.equal(text, encode(value))
    end
  end)

  -- The shortest of 15, 16 and 17 digits, by Lua's own format.
  local function expected(x)
    for digits = 15, 17 do
      local text = ("%%.%dg"):format(digits):format(x)
      if tonumber(text) == x then
        return text:find "[.e]" and text or text .. ".0"
      end
    end
  end

  it("writes any float so", function()
    math.randomseed(11)
    for _ = 1, 20000 do
      local x = string.unpack("<n", string.pack("<i8", math.random(0)))
      if x == x and math.abs(x) < math.huge then
        assert.are.equal(expected(x), encode(x))
      end
      x = math.random(10 ^ math.random(18)) / 10.0 ^ math.random(0, 20)
      assert.are.equal(expected(x), encode(x))
      x = -math.random() * 10.0 ^ math.random(-6, 17)
      assert.are.equal(expected(x), encode(x))
    end
  end)

  it("writes integers whole", function()
    for _, i in ipairs { 0, 1, -1, 10, 9007199254740993, math.maxinteger,
      math.mininteger } do
      assert.are.equal(("%d"):format(i), encode(i))
    end
  end)

  -- With a decimal comma; C has no other locale built in.
  it("minds no locale", function()
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir " .. dir)
    local made = os.execute("localedef -i de_DE -f ISO-8859-1 --no-archive "
      .. dir .. "/de_DE")
    local result = command.run(script.interpreter(), [[lua -e '
      assert(os.setlocale("de_DE") and tostring(2.5) == "2,5")
      local json = require "luapool.json"
      print(json.encode {2.5, 2.5e-7, 0.1 + 0.2, 1e300})
      print(json.decode "2.5", json.decode "0.30000000000000004")']],
      { env = { LOCPATH = dir } })
    os.execute("rm -r " .. dir)
    assert.is_true(made)
    assert.are.equal("", result.stderr)
    assert.are.equal("[2.5,2.5e-07,0.30000000000000004,1e+300]\n2,5\t0,3\n",
      result.stdout)
  end)

  it("escapes what it must, and no more", function()
    local all = {}
    for i = 0, 127 do all[i + 1] = string.char(i) end
    local text = table.concat(all) .. "\u{80}\u{7ff}\u{20ac}\u{2028}\u{1f600}"
    assert.are.equal('"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006'
      .. '\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f\\u0010\\u0011\\u0012'
      .. '\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b'
      .. '\\u001c\\u001d\\u001e\\u001f !\\"' .. text:sub(36, 92) .. "\\\\"
      .. text:sub(94, 127) .. "\\u007f" .. text:sub(129) .. '"', encode(text))
    assert.are.equal(text, decode(encode(text)))
  end)

  it("takes lists for arrays and the rest for objects", function()
    assert.are.equal("{}", encode {})
    assert.are.equal("[{}]", encode { {} })
    assert.are.equal('{"a":[1,"2"]}', encode { a = { 1, "2" } })
    assert.are.equal("[]", encode(setmetatable({}, json.array)))
    assert.are.equal('{"x":1}', encode(setmetatable({ x = 1 }, { __index = {},
      __pairs = error, __len = error, __name = "Point" })))
    assert.are.equal("null", encode(nil))
    assert.are.equal("[null]", encode { null })
    local grown = {}
    for i = 100, 1, -1 do grown[i] = i end
    assert.are.equal(back(encode(grown)), encode(grown))
    assert.are.equal(100, #decode(encode(grown)))
  end)

  it("refuses tables that are neither, and names them", function()
    unwritable({ 1, x = 1 }, "a table of both a list and an object")
    unwritable({ x = 1, 1 }, "a table of both a list and an object")
    unwritable({ n = 2, 1, 2 }, "a table of both a list and an object")
    unwritable({ a = { x = 1, [7] = 1 } },
      "a table of both a list and an object (a)")
    unwritable({ 1, nil, 3 }, "a list with holes")
    unwritable({ x = { [2] = 1 } }, "a list with holes (x)")
    unwritable({ [0] = 1 }, "a list with holes")
    unwritable({ { [-1] = 1, 2 } }, "a list with holes ([1])")
    unwritable({ [1 << 40] = 1 }, "a list with holes")
    unwritable({ [1.5] = 1 }, "a table with a float as key")
    unwritable({ { [true] = 1 } }, "a table with a boolean as key ([1])")
    unwritable({ [{}] = 1 }, "a table with a table as key")
    unwritable({ [null] = 1 }, "a table with a userdata as key")
    unwritable(setmetatable({ x = 1 }, json.array), "an array with names")
    unwritable({ setmetatable({ x = 1, 2 }, json.array) },
      "a table of both a list and an object ([1])")
    unwritable(setmetatable({ nil, 2 }, json.array), "a list with holes")
  end)

  it("refuses what is no value of JSON, and names the place", function()
    unwritable(print, "a function")
    unwritable({ items = { 1, 2, { f = print } } },
      "a function (items[3].f)")
    unwritable({ { ["a b"] = io.stdout } }, 'a userdata ([1]["a b"])')
    unwritable({ a = { b = coroutine.create(print) } }, "a coroutine (a.b)")
    unwritable(0 / 0, "NaN")
    unwritable({ x = 1 / 0 }, "an infinity (x)")
    unwritable({ -1 / 0 }, "an infinity ([1])")
    unwritable({ a = "\xff" }, "a string that is no UTF-8 (a)")
    unwritable({ a = { ["\xff"] = 1 } }, "a key that is no UTF-8 (a)")
    local long = {}
    local at = long
    for _ = 1, 500 do at.x = {} at = at.x end
    at.x = print
    unwritable(long, "a function (x.x.x.x.x.x.x.x ... .x.x.x.x.x.x.x.x)")
  end)

  it("refuses bytes that are no UTF-8", function()
    for _, bytes in ipairs { "\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf",
      "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
      "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98" } do
      for _, text in ipairs { bytes, "text " .. bytes, bytes .. "x" } do
        unwritable(text, "a string that is no UTF-8")
        unwritable({ [text] = 1 }, "a key that is no UTF-8")
      end
    end
  end)

  it("goes 1000 levels deep", function()
    local list, map = {}, {}
    for _ = 1, 999 do list, map = { list }, { a = map } end
    list = encode(list)
    assert.are.equal(("["):rep(999) .. "{}" .. ("]"):rep(999), list)
    assert.are.equal(list, back(list))
    assert.are.equal(6 * 999 + 2, #encode(map))
    assert.matches("^cannot encode more than 1000 levels of tables %(a.a",
      select(2, encode { a = map }))
    assert.are.equal(good.deep, back(good.deep))
    assert.are.equal(good.deep_objects, back(good.deep_objects))
    local inside = coroutine.wrap(function() return back(good.deep) end)
    assert.are.equal(good.deep, inside())
  end)

  it("finds tables inside themselves", function()
    local t = {}
    t.a = { { b = t } }
    unwritable(t, "a table inside itself (a[1].b)")
    t = { 1, {} }
    t[2][1] = t[2]
    unwritable(t, "a table inside itself ([2][1])")
    local shared = {}
    assert.are.equal("[{},{}]", encode { shared, shared })
  end)

  it("wants a value", function()
    assert.has_error(function() encode() end,
      "bad argument #1 to 'encode' (value expected)")
  end)
end)

describe("null and arrays", function()
  leaks.guard(before_each, after_each)

  it("know each other in every module that has them", function()
    local ok, cjson = pcall(require, "cjson")
    if not ok then return pending "no cjson here" end
    assert.is_true(cjson.null == null)
    assert.are.equal('{"a":null}', cjson.encode(decode '{"a":null}'))
  end)

  it("stay what they are when emptied, filled and loaded anew", function()
    local list = decode '[1,[],{}]'
    assert.are.equal(json.array, getmetatable(list))
    table.remove(list)
    table.remove(list)
    assert.are.equal("[1]", encode(list))
    table.remove(list)
    assert.are.equal("[]", encode(list))
    package.loaded["luapool.json"] = nil
    local again = require "luapool.json"
    package.loaded["luapool.json"] = json
    assert.are.equal("[]", again.encode(list))
  end)

  local function same(x) return x end
  local function written(x)
    local j = require "luapool.json"
    return { j.encode(x), getmetatable(x) == j.array }
  end
  local function read(text) return (require "luapool.json".decode(text)) end

  for _, method in ipairs { "fork", "spawn" } do
    it("come through tasks of workers by " .. method, function()
      local pool <close> = luapool.Pool { 2, start_method = method }
      local text = '{"items":[[],[[],[1]],{"a":[]},null,1.0,{}]}'
      local event = decode(text)
      assert.are.equal(text, encode(pool:apply(same, { event })))
      assert.are.equal('[[],[[],[1]],{"a":[]},null,1.0,{}]',
        encode(pool:map(same, event.items)))
      local texts = pool:map(written, event.items)
      assert.are.same({ "[]", true }, texts[1])
      assert.are.same({ "[[],[1]]", true }, texts[2])
      assert.are.same({ '{"a":[]}', false }, texts[3])
      assert.are.equal("[[],[[]],{}]",
        encode(pool:map(read, { "[]", "[[]]", "{}" })))
    end)
  end
end)

-- Python's json looks at the same texts, and at values that were read and
-- written.
describe("luapool.json agrees with another reader", function()
  leaks.guard(before_each, after_each)

  local function hex(s)
    if s == "" then return "-" end
    return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
  end

  local function judged(texts)
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    for _, text in ipairs(texts) do
      local value, message = decode(text)
      local got = message == nil and assert(encode(value)) or ""
      file:write(hex(text), " ", hex(got), "\n")
    end
    file:close()
    local judge = io.popen("python3 spec/support/json_judge.py <" .. name)
    local verdict = judge:read "a"
    local ended = judge:close()
    os.remove(name)
    assert.is_true(ended)
    assert.are.equal("", verdict)
  end

  -- Python counts its own stack, not levels.
  local function shallow(list, to)
    for _, text in pairs(list) do
      local _, opened = text:gsub("[%[{]", "")
      if opened < 500 then to[#to + 1] = text end
    end
    return to
  end

  it("on every case of this file", function()
    judged(shallow(good, shallow(bad, {})))
  end)

  local pieces = { "[", "]", "{", "}", ",", ":", '"', '"a"', '"b":', "\\",
    "\\u", "\\ud83d", "\\ude00", "\\n", "0", "1", "-", ".", "e", "+", "9",
    "null", "true", "false", " ", "\n", "\0", "\u{e9}", "\xe9",
    "\xed\xa0\x80", "/" }

  local function mutated(text)
    for _ = 1, math.random(3) do
      local at = math.random(#text + 1)
      local piece = pieces[math.random(#pieces)]
      text = text:sub(1, at - 1) .. (math.random(3) > 1 and piece or "")
        .. text:sub(at + math.random(0, 2))
    end
    return text
  end

  it("on texts with mistakes at random", function()
    math.randomseed(12)
    local seeds, texts = {}, {}
    for _, text in ipairs(shallow(good, {})) do
      if #text < 200 then seeds[#seeds + 1] = text end
    end
    table.sort(seeds)
    for i = 1, 5000 do texts[i] = mutated(seeds[math.random(#seeds)]) end
    judged(texts)
  end)

  local random_value
  local makers = {
    function() return math.random(0) end,
    function() return math.random(-100, 100) end,
    function() return math.random() * 10.0 ^ math.random(-20, 20) end,
    function() return math.random(1000) / 100 end,
    function() return math.random(2) == 1 end,
    function() return null end,
    function()
      local codes = {}
      for i = 1, math.random(0, 12) do
        codes[i] = utf8.char(math.random(0, 1 << math.random(7, 15)))
      end
      return table.concat(codes)
    end,
    function(depth)
      local list = setmetatable({}, json.array)
      for i = 1, math.random(0, depth) do list[i] = random_value(depth - 1) end
      return list
    end,
    function(depth)
      local map = {}
      for _ = 1, math.random(0, depth) do
        map["k" .. math.random(9)] = random_value(depth - 1)
      end
      return map
    end,
  }
  function random_value(depth) return makers[math.random(#makers)](depth) end

  it("on values at random", function()
    math.randomseed(13)
    local texts = {}
    for i = 1, 2000 do
      local value = random_value(6)
      local text = assert(encode(value))
      assert.are.same(value, decode(text))
      texts[i] = text
    end
    judged(texts)
  end)
end)
