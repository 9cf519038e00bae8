-- SPDX-License-Identifier: MIT
-- Values as bytes: what encode writes, decode gives back; whatever else decode
-- is given is an error. Functions are in closure_spec.
local host = require "luapool.host"
local pass = require "spec.support.pass"

local encode, decode, back = host.encode, host.decode, pass.back

-- Errors are strings here, or tables where luapool.error has been loaded.
local function refused(text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.matches(text, tostring(err), 1, true)
end

local function same_bits(a, b)
  return math.type(a) == math.type(b)
    and string.pack("<n", a) == string.pack("<n", b)
end

-- Bytes of a message of one value, given what follows the count; and tags of
-- host/wire.h.
local function message(...) return string.char(4, ...) end
local TABLE, END, NUMBERS, NIL, INT8, FLOAT, SLOT, REF, CELL, CLASS, NEW =
  0xc0, 0xd0, 0xd1, 0xd2, 0xd9, 0xda, 0xa0, 0xe0, 0xe3, 0xe7, 0xe8
local ARRAY, HASH, META, LATER = 1, 2, 4, 8
local LIST, MAP = TABLE | ARRAY, TABLE | HASH

describe("plain values", function()
  local integers = { 0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536 }
  for _, i in ipairs { 2 ^ 31, 2 ^ 32, 2 ^ 40, 2 ^ 53 } do
    integers[#integers + 1] = math.tointeger(i)
    integers[#integers + 1] = math.tointeger(i) - 1
  end
  for i = 1, #integers do integers[#integers + 1] = -integers[i] end
  integers[#integers + 1] = math.maxinteger
  integers[#integers + 1] = math.mininteger

  it("keeps integers integers, alone, in a list and as keys", function()
    for _, i in ipairs(integers) do
      assert.are.equal("integer", math.type(back(i)))
      assert.are.equal(i, back(i))
      assert.are.equal(i, back({ i })[1])
      assert.are.equal("integer", math.type(next(back({ [i] = true }))))
      assert.are.equal(i, next(back({ [i] = true })))
    end
  end)

  it("keeps every bit of a float", function()
    local odd_nan = string.unpack("<n", "\1\2\3\4\5\6\xf8\x7f")
    local floats = { 0.0, -0.0, 1.0, -1.0, 1.5, 2 ^ 53, 2 ^ 63, 1e308, 5e-324,
      1 / 0, -1 / 0, 0 / 0, -(0 / 0), odd_nan, math.pi }
    for _, f in ipairs(floats) do
      assert.is_true(same_bits(f, back(f)))
      assert.is_true(same_bits(f, back({ f })[1]))
      assert.is_true(same_bits(f, back({ x = f }).x))
    end
  end)

  it("keeps booleans and nil, also between and behind others", function()
    assert.is_true(back(true))
    assert.is_false(back(false))
    assert.are.same({ n = 3, nil, 1, nil }, table.pack(back(nil, 1, nil)))
    assert.are.same({ n = 0 }, table.pack(back()))
  end)

  it("keeps strings of any bytes and any length", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local all = table.concat(bytes)
    for _, n in ipairs { 0, 1, 31, 32, 40, 41, 255, 256, 257, 4095, 65537 } do
      local s = all:rep(n // 256 + 1):sub(1, n)
      assert.are.equal(s, back(s))
      assert.are.same({ s, s, k = s }, back({ s, s, k = s }))
      assert.are.equal(1, back({ [s] = 1 })[s])
    end
    local long = all:rep(1 << 14)
    assert.is_true(long == back(long))
  end)

  it("sends a string that occurs again once", function()
    local long, short = ("x"):rep(10000), "some name"
    assert.is_true(#encode({ long, long, long }) < 10100)
    local list = {}
    for i = 1, 1000 do list[i] = { [short] = i } end
    assert.is_true(#encode(list) < 8000)
    assert.are.same(list, back(list))
  end)

  it("keeps strings apart when more occur than it remembers", function()
    local list = {}
    for i = 1, 3000 do list[i] = "string " .. i % 700 end
    assert.are.same(list, back(list))
  end)

  it("keeps the null light userdata", function()
    local null = pass.null()
    assert.is_true(null == back(null))
    assert.is_true(null == back({ null })[1])
    assert.are.equal(1, back({ [null] = 1 })[null])
  end)
end)

describe("tables", function()
  before_each(pass.settle)

  it("may be empty, lists, maps and both", function()
    local key = { 1 }
    for _, t in ipairs {
      {}, { 1 }, { 1, 2, 3 }, { {}, {} }, { a = 1 },
      { 1, 2, a = { b = { 3 } } },
      { [0] = 0, [-1] = -1, [1.5] = 1.5, [2 ^ 60] = 5 },
      { [true] = 1, [false] = 2 }, { [1 << 40] = 1, [1e300] = 2 },
    } do
      assert.are.same(t, back(t))
    end
    local t = back({ [key] = key })
    assert.are.equal(next(t), t[next(t)])
  end)

  it("keep holes, wherever Lua has put the elements", function()
    local holes = { 1, nil, 3, nil, nil, 6 }
    assert.are.same(holes, back(holes))
    assert.are.equal(3, #back({ nil, nil, 3 }))
    local packed = back(table.pack(nil, 1, nil, nil))
    assert.are.equal(4, packed.n)
    assert.are.equal(1, packed[2])
    assert.are.same({ [1] = 1, [2] = 2, [3] = 3, x = 1 },
      back({ [1] = 1, [2] = 2, [3] = 3, x = 1 }))
    local grown = { a = 1, b = 2, c = 3 }
    grown.b, grown.c = nil, nil
    for i = 1, 5 do grown[i] = i end
    assert.are.same({ a = 1, 1, 2, 3, 4, 5 }, back(grown))
  end)

  -- Tables grown and thinned at random lie in memory in every possible way.
  it("are the same after any history of assignments", function()
    math.randomseed(7)
    for _ = 1, 4000 do
      local t = pass.random_table()
      local borders = { [#t] = true }
      local copy = back(t)
      borders[#t] = true
      for k, v in next, t do assert(rawequal(v, copy[k])) end
      for k in next, copy do assert(t[k] ~= nil) end
      assert(borders[#copy] or t[#copy] ~= nil and t[#copy + 1] == nil)
    end
  end)

  it("are the same whether or not they share a message with an object",
    function()
      math.randomseed(8)
      for _ = 1, 1000 do
        local t = pass.random_table()
        local copy = back({ t, setmetatable({}, {}) })[1]
        for k, v in next, t do assert(rawequal(v, copy[k])) end
        for k in next, copy do assert(t[k] ~= nil) end
      end
    end)

  -- An object beside them keeps the encoder from reading memory directly.
  for how, beside in pairs { ["alone"] = 1, ["beside an object"] =
    setmetatable({}, {}) } do
    it("keep what they share, and cycles, " .. how, function()
      local shared = {}
      local t = { shared, shared, x = shared }
      t.self, t[shared] = t, t
      local u, v = back(t, shared, beside)
      assert.are.equal(u[1], u[2])
      assert.are.equal(u[1], u.x)
      assert.are.equal(u, u.self)
      assert.are.equal(u, u[u[1]])
      assert.are.equal(v, u[1])
      assert.are_not.equal(t, u)
    end)

    it("may be nested a million levels deep, " .. how, function()
      local t = {}
      for _ = 1, 1000000 do t = { t } end
      local u, depth = back(t, beside), 0
      while u[1] do u, depth = u[1], depth + 1 end
      assert.are.equal(1000000, depth)
    end)

    it("may form a linked list of a million nodes, " .. how, function()
      local first
      for i = 1, 1000000 do
        local node = { next = first, i = i }
        if first then first.previous = node end
        first = node
      end
      local node, sum = back(first, beside), 0
      while node do
        sum = sum + node.i
        assert(node.next == nil or node.next.previous == node)
        node = node.next
      end
      assert.are.equal(500000500000, sum)
    end)
  end

  it("are read raw: no metamethod is called", function()
    local function never() error("called") end
    local mt = {}
    for _, event in ipairs { "__index", "__newindex", "__pairs", "__len",
      "__eq", "__gc", "__tostring", "__name" } do
      mt[event] = event ~= "__gc" and never or nil
    end
    local t = back(setmetatable({ 1, 2, x = 3 }, mt))
    assert.are.equal(1, rawget(t, 1))
    assert.are.equal(3, rawget(t, "x"))
    assert.are.equal(2, rawlen(t))
  end)

  it("keep their metatables, and share them", function()
    local mt = { __index = { y = 2 } }
    local a, b = back(setmetatable({ x = 1 }, mt), setmetatable({}, mt))
    assert.are.equal(2, a.y)
    assert.are.equal(getmetatable(a), getmetatable(b))
  end)

  it("may be their own metatable", function()
    local class = { x = 1 }
    class.__index = class
    setmetatable(class, class)
    local copy = back(class)
    assert.are.equal(copy, getmetatable(copy))
    assert.are.equal(copy, copy.__index)
  end)

  it("may be weak: nothing is lost on the way", function()
    local list = setmetatable({}, { __mode = "v" })
    local keep = {}
    for i = 1, 100 do
      keep[i] = { i }
      list[i] = keep[i]
    end
    local copy, kept = back(list, keep)
    collectgarbage()
    for i = 1, 100 do assert.are.equal(kept[i], copy[i]) end
  end)
end)

describe("what modules and register name", function()
  after_each(function() package.loaded["codec.sample"] = nil end)

  it("standard libraries and the globals stay what they are", function()
    for _, name in ipairs { "string", "table", "math", "io", "os", "debug",
      "coroutine", "utf8", "package" } do
      assert.are.equal(package.loaded[name], back(package.loaded[name]))
    end
    assert.are.equal(_G, back(_G))
    assert.are.equal(_G, back({ { g = _G } })[1].g)
  end)

  it("a loaded module's table is that module", function()
    local sample = { data = { 1 } }
    package.loaded["codec.sample"] = sample
    assert.are.equal(sample, back(sample))
    assert.are.equal(sample, back({ x = sample }).x)
    assert.are_not.equal(sample.data, back(sample.data))
    package.loaded["codec.sample"] = nil
    assert.are_not.equal(sample, back(sample))
  end)

  it("classes in a module stay what they are", function()
    local sample =
      { Class = { __index = {} }, sub = { Other = {} }, Plain = {} }
    package.loaded["codec.sample"] = sample
    assert.are.equal(sample.Class, back(sample.Class))
    for _, mt in ipairs { sample.Class, sample.sub.Other } do
      assert.are.equal(mt, getmetatable(back(setmetatable({}, mt))))
    end
    -- by now it is known to be a metatable
    assert.are.equal(sample.sub.Other, back(sample.sub.Other))
    assert.are_not.equal(sample.Plain, back(sample.Plain))
  end)

  it("decode finds only loaded modules, unless code may be run", function()
    local sample = {}
    package.loaded["codec.sample"] = sample
    local bytes = encode(sample)
    package.loaded["codec.sample"] = nil
    package.preload["codec.sample"] = function() return sample end
    refused("codec.sample", decode, bytes)
    assert.are.equal(sample, decode(bytes, { code = true }))
    package.preload["codec.sample"] = nil
    package.loaded["codec.sample"] = nil
    refused("codec.sample", decode, bytes, { code = true })
  end)

  it("a registered value is the same one", function()
    local big, work = { 1, 2 }, function() end
    host.register("codec_spec big", big)
    host.register("codec_spec work", work)
    local a, b = back(big, { work })
    assert.are.equal(big, a)
    assert.are.equal(work, b[1])
    local bytes = encode(big)
    host.register("codec_spec big", { 3 })
    assert.are.same({ 3 }, decode(bytes))
    assert.are_not.equal(big, back(big))
  end)

  it("register wants a string and a table or function", function()
    refused("string expected", host.register)
    refused("string expected, got number", host.register, 1, {})
    refused("table or function expected", host.register, "x")
    refused("table or function expected, got string", host.register, "x", "y")
  end)
end)

describe("a value that cannot travel", function()
  local file = io.stdout

  local function place(text, ...) refused("(" .. text .. ")", encode, ...) end

  it("is named with its place", function()
    refused("cannot send a userdata (args[1])", encode, file)
    refused("cannot send a coroutine (args[2])", encode, 1,
      coroutine.create(print))
    place("args[3][2].file", 1, 2, { 1, { file = file } })
    place('args[1]["a b"].x[3][true][2.5]',
      { ["a b"] = { x = { [3] = { [true] = { [2.5] = file } } } } })
    place('args[1]["end"]', { ["end"] = file })
    place('args[1]["\\0\\"\\\\"]', { ['\0"\\'] = file })
    place("args[1] key", { [file] = 1 })
    place("args[1] metatable.__index.f",
      setmetatable({}, { __index = { f = file } }))
    place("args[1] upvalue 'file'", function() return file end)
    local conn = { { file } }
    local t = { go = function() return conn end }
    place("args[1].go upvalue 'conn'[1][1]", t)
  end)

  it("is named by the shortest path, of which the middle may be missing",
    function()
      local list = {}
      local last = list
      for _ = 1, 100000 do
        last.next = {}
        last = last.next
      end
      last.file = file
      local _, err = pcall(encode, list)
      assert.matches("args%[1%]%.next%.next.* %.%.%. .*%.next%.file%)",
        tostring(err))
      assert.is_true(#tostring(err) < 200)
      list.again = file
      place("args[1].again", list)
    end)

  it("may be one of luapool's own objects", function()
    local pool = setmetatable({}, { __luapool = "pool" })
    refused("cannot send a pool (args[1])", encode, pool)
    refused("cannot send a pool (args[1].x[1])", encode, { x = { pool } })
    refused("cannot send an executor (args[1])", encode,
      setmetatable({}, { __luapool = "executor" }))
  end)

  it("may be a light userdata other than null", function()
    refused("cannot send a light userdata (args[1][1])", encode,
      { debug.upvalueid(function() return file end, 1) })
  end)

  it("may be a C function that nothing names", function()
    refused("cannot send a C function (args[1].f)", encode,
      { f = string.gmatch("", "") })
  end)

  it("does no harm to the next value", function()
    assert.is_false(pcall(encode, { { { file } } }))
    assert.are.same({ { 1 } }, back({ { 1 } }))
  end)
end)

describe("decode", function()
  local function bad(bytes, opts) refused("message", decode, bytes, opts) end

  it("refuses every proper prefix, the empty one too", function()
    local bytes = encode({ 1, -300, 2.5, "abc", { x = true, y = {} },
      [2.5] = 1, [{}] = pass.null() }, ("z"):rep(300), nil)
    for i = 0, #bytes - 1 do bad(bytes:sub(1, i)) end
  end)

  it("refuses trailing bytes", function()
    bad(encode(1) .. "\0")
    bad(encode({ 1 }) .. encode(2))
  end)

  it("refuses unknown tags", function()
    for tag = NEW + 1, 0xff do bad(message(tag)) end
  end)

  it("refuses lengths and counts beyond the input", function()
    local huge = ("\xff"):rep(8) .. "\x7f"
    bad(huge)
    for tag = END, NEW do bad(message(tag) .. huge) end
    for tag = TABLE + 1, END - 1 do
      bad(message(tag) .. huge .. ("\0"):rep(64))
    end
    bad(message(MAP, 40))
    bad(message(MAP, 255))
  end)

  it("refuses numbers of more than 64 bits", function()
    bad(("\x80"):rep(10) .. "\1")
    bad(("\xff"):rep(9) .. "\2" .. "\0")
  end)

  it("takes no memory for nested counts that multiply", function()
    -- each table claims as many elements as there are bytes left
    local parts = { "\4" }
    for i = 1, 10000 do
      local left = 40000 - i * 4
      parts[i + 1] = string.char(LIST | LATER, left & 0x7f | 0x80,
        left >> 7 & 0x7f | 0x80, left >> 14)
    end
    collectgarbage()
    local before = collectgarbage("count")
    bad(table.concat(parts))
    assert.is_true(collectgarbage("count") - before < 20000)
  end)

  it("refuses nil, NaN and numbers out of place as keys", function()
    bad(message(MAP, 0, NIL, 1, END))
    bad(message(MAP, 0, 5, 1, END))
    bad(message(MAP, 0, NUMBERS, 1, FLOAT) .. string.pack("<n", 0 / 0) .. "\1")
    bad(message(MAP, 0, NUMBERS, 1, NIL, 1))
  end)

  it("refuses more pairs than the table was made for", function()
    local a, b = 0x81, 0x61
    assert.are.same({ a = 1 }, decode(message(MAP, 0, a, b, 1, END)))
    bad(message(MAP, 0, a, b, 1, a, b + 1, 1, END))
  end)

  it("refuses references out of range, forward, and without notice", function()
    -- the head says whether there are references
    local function with(...) return string.char(5, ...) end
    local t = decode(with(LIST, 1, REF, 0))
    assert.are.equal(t, t[1])
    bad(message(LIST, 1, REF, 0))
    bad(with(LIST, 1, REF, 1))
    bad(with(LIST, 1, REF) .. ("\xff"):rep(9) .. "\1")
    bad(with(LIST, 1, SLOT))
    bad(with(LIST, 1, CELL, 0))
  end)

  it("refuses a metatable that is none, and tables nested without end",
    function()
      local deeper = string.char(LIST, 1)
      bad(message(TABLE | META, 1))
      bad(message() .. deeper:rep(100000))
      local deepest = message() .. deeper:rep(16) .. "\1"
      assert.are.same("table", type(decode(deepest)))
      bad(message() .. deeper:rep(17) .. "\1")
    end)

  it("refuses code unless it is allowed", function()
    local bytes = encode(function() return 5 end)
    bad(bytes)
    bad(bytes, {})
    bad(bytes, { code = false })
    assert.are.equal(5, decode(bytes, { code = true })())
  end)

  it("refuses classes and globals of a pool", function()
    bad(message(CLASS, 1))
    bad(message(NEW, 1, TABLE))
    bad("\6\1\0")
  end)

  it("refuses other arguments than a string and {code = boolean}", function()
    refused("string expected", decode)
    refused("table expected", decode, "", 1)
    refused("unknown option 'kode'", decode, "", { kode = true })
    refused("'code': boolean expected", decode, "", { code = 1 })
  end)

  it("gives a value or an error for any bytes", function()
    math.randomseed(9)
    local samples = {
      encode({ 1, 2.5, "abc", "abc", "abc", { x = 1, y = { true } } }),
      encode({ [1.5] = 1, [-1] = { [7] = 8 }, z = ("long"):rep(100) }, nil, 5),
      encode(string, print, { setmetatable({}, { __index = {} }) }),
    }
    for i = 1, 10000 do
      local bytes = samples[i % #samples + 1]:gsub(".", function(byte)
        if math.random(12) == 1 then return string.char(math.random(0, 255)) end
        return byte
      end)
      pcall(decode, bytes)
    end
  end)
end)

describe("keys that collide", function()
  local function seconds(f, ...)
    local start = os.clock()
    return os.clock() - start, f(...)
  end

  -- Built so that they do not collide here: Lua grows this table past 2^16.
  local function flood(n, step)
    local t = {}
    for i = 1, 140000 do t["k" .. i] = true end
    for i = 1, n do t[i * step] = i end
    for i = 1, 140000 do t["k" .. i] = nil end
    return t
  end

  it("are decoded in time proportional to their number", function()
    local start = os.clock()
    local bytes = encode(flood(60000, 65535))
    local copy = decode(bytes)
    assert.is_true(os.clock() - start < 1)
    local n = 0
    for k, v in next, copy do
      assert(k == v * 65535)
      n = n + 1
    end
    assert.are.equal(60000, n)
  end)

  it("are refused where the message asks for the worst size", function()
    local keys, values = {}, {}
    for i = 1, 60000 do
      keys[i] = string.char(INT8) .. string.pack("<i8", i * 65535)
      values[i] = "\1"
    end
    local bytes = message(MAP, 16, NUMBERS) .. "\xe0\xd4\3"
      .. table.concat(keys) .. table.concat(values)
    local start = os.clock()
    assert.is_false(pcall(decode, bytes))
    assert.is_true(os.clock() - start < 1)
    local good = bytes:gsub("^(..).", "%1\17", 1)
    assert.are.equal(1, decode(good)[65535])
  end)

  it("are refused where no size helps", function()
    local keys, values = {}, {}
    for i = 1, 60000 do
      keys[i] = string.char(FLOAT) .. string.pack("<n", 1 + i * 2 ^ -52)
      values[i] = "\1"
    end
    local bytes = message(MAP, 16, NUMBERS) .. "\xe0\xd4\3"
      .. table.concat(keys) .. table.concat(values)
    local start = os.clock()
    assert.is_false(pcall(decode, bytes))
    assert.is_true(os.clock() - start < 1)
    assert.is_true(seconds(decode, encode(1)) < 1)
  end)
end)
