-- SPDX-License-Identifier: MIT
-- Responses written piece by piece: how they are framed, when the pieces are
-- sent, and what an error becomes before and after the first of them.
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local records = require "spec.support.lambda.record"

local TYPE = "Lambda-Runtime-Function-Error-Type"
local BODY = "Lambda-Runtime-Function-Error-Body"

local function one_of(cases)
  return ([[
    local luapool = require "luapool"
    local gate = require "spec.support.gate"
    local cases = {}
    %s
    function cases.fine() return "fine" end
    return { handler = function(event, ...) return cases[event](event, ...) end
    }
  ]]):format(cases)
end

local function invoke(f, name) return f:invoke('"' .. name .. '"') end

local function still_fine(f)
  assert.are.equal('"fine"', invoke(f, "fine"):result())
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  .. "0123456789+/"

local function base64(text)
  local bits = text:gsub("[^%w+/]", ""):gsub(".", function(c)
    local n, s = ALPHABET:find(c, 1, true) - 1, ""
    for i = 5, 0, -1 do s = s .. (n >> i & 1) end
    return s
  end)
  return (bits:sub(1, #bits // 8 * 8):gsub("........", function(byte)
    return string.char(tonumber(byte, 2))
  end))
end

-- The error in the trailers of a stream, checked.
local function trailing_error(answer, kind)
  local found, n = answer:trailer(TYPE)
  assert.are.same({ kind, 1 }, { found, n })
  local encoded, m = answer:trailer(BODY)
  assert.are.equal(1, m)
  assert.matches("^[%w+/]+=?=?$", encoded)
  return records.check_error(answer, base64(encoded), kind)
end

local function is_stream(answer)
  assert.are.equal("response", answer.kind)
  assert.are.same({ "streaming", 1 },
    { answer:header "Lambda-Runtime-Function-Response-Mode" })
  assert.matches("^[Cc]hunked$", answer:header "Transfer-Encoding")
  assert.is_nil(answer:header "Content-Length")
  assert.is_nil(answer:header(TYPE))
  local announced = {}
  for _, pair in ipairs(answer.headers) do
    if pair[1]:lower() == "trailer" then
      announced[#announced + 1] = pair[2]:lower()
    end
  end
  local text = table.concat(announced, ",")
  assert.is_truthy(text:find(TYPE:lower(), 1, true), text)
  assert.is_truthy(text:find(BODY:lower(), 1, true), text)
end

describe("a stream", function()
  lambda.guard(before_each, after_each)

  it("is what was written, with its type", function()
    local f = lambda.start { code = one_of [[
      function cases.text(_, context)
        local out = context.stream {content_type = "text/event-stream"}
        out:write "one,"
        out:write "two,"
        out:write "\u{20AC}"
        return "not this"
      end
      function cases.bytes(_, context)
        local out, all = context.stream {content_type = "image/png"}, {}
        for i = 0, 255 do all[i + 1] = string.char(i) end
        for _ = 1, 100 do out:write(table.concat(all)) end
      end
      function cases.none(_, context)
        context.stream {content_type = "text/plain"}
      end
      function cases.holes(_, context)
        local out = context.stream {content_type = "text/plain"}
        out:write ""
        out:write "a"
        out:write ""
        out:write "b"
        out:write ""
      end
    ]] }
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    for name, expected in pairs {
      text = { "one,two,\u{20AC}", "text/event-stream" },
      bytes = { table.concat(bytes):rep(100), "image/png" },
      none = { "", "text/plain" }, holes = { "ab", "text/plain" },
    } do
      local answer = invoke(f, name)
      assert.are.equal(expected[1], answer:result())
      assert.are.same({ expected[2], 1 }, { answer:header "Content-Type" })
      is_stream(answer)
      assert.is_true((answer:trailer(TYPE) or "") == "")
      assert.is_true((answer:trailer(BODY) or "") == "")
    end
    still_fine(f)
    f:stop()
  end)

  it("needs no type", function()
    local f = lambda.start { code = one_of [[
      function cases.options(_, context) context.stream({}):write "x" end
      function cases.nothing(_, context) context.stream():write "x" end
    ]] }
    for _, name in ipairs { "options", "nothing" } do
      local answer = invoke(f, name)
      assert.are.equal("x", answer:result())
      is_stream(answer)
    end
    f:stop()
  end)

  it("is sent while the handler is at work", function()
    local path = gate.name()
    local f = lambda.start { code = ([[
      local gate = require "spec.support.gate"
      return { handler = function(_, context)
        local out = context.stream {content_type = "text/plain"}
        for i = 1, 3 do
          out:write(("x"):rep(i))
          gate.wait(%q, i)
        end
      end }
    ]]):format(path) }
    f:push "{}"
    for i = 1, 3 do
      local chunk = f:wait_for({ what = "chunk", kind = "response" }, i)
      assert.are.equal(i, chunk.size)
      assert.are.equal(0, #f:requests "response")
      gate.mark(path)
    end
    assert.are.equal("xxxxxx", f:wait_answer "event-1":result())
    f:stop()
  end)

  it("may be larger than a response", function()
    local f = lambda.start { code = one_of [[
      function cases.small(_, context)
        local out = context.stream {content_type = "text/plain"}
        for i = 1, 10000 do out:write(("%09d\n"):format(i):rep(100)) end
      end
      function cases.large(_, context)
        local out = context.stream {content_type = "text/plain"}
        out:write(("x"):rep(20 << 20))
      end
    ]] }
    local text = invoke(f, "small"):result()
    assert.are.equal(10000000, #text)
    local at = 1
    for i = 1, 10000 do
      local line = ("%09d\n"):format(i):rep(100)
      assert(text:sub(at, at + #line - 1) == line, "lost at " .. i)
      at = at + #line
    end
    assert.are.equal(20 << 20, #invoke(f, "large"):result())
    f:stop()
  end)

  it("waits for a reader that is slow, and holds little meanwhile", function()
    local f = lambda.start { faults = { { at = "response", stall = 0.5 } },
      code = one_of [[
        function cases.much(_, context)
          local out = context.stream {content_type = "text/plain"}
          for _ = 1, 1000 do out:write(("x"):rep(1 << 16)) end
        end
      ]] }
    f:push '"much"'
    f:wait_for { what = "head", kind = "response" }
    gate.sleep(0.4)
    local size = tonumber(gate.read(("/proc/%d/status"):format(f:pid()))
      :match "VmRSS:%s*(%d+)")
    assert.are.equal(1000 << 16, #f:wait_answer "event-1":result())
    assert.is_true(size < 200000, size) -- kB, 64 MB of it the sanitizer's
    f:stop()
  end)

  it("carries the invocation id back", function()
    local f = lambda.start { code = one_of [[
      function cases.text(_, context)
        context.stream {content_type = "text/plain"}:write "x"
      end
    ]] }
    local answer = f:invoke { body = '"text"',
      headers = { { "Lambda-Runtime-Invocation-Id", "inv" } } }
    assert.are.equal("inv", (answer:header "Lambda-Runtime-Invocation-Id"))
    assert.are.equal("x", answer:result())
    f:stop()
  end)

  it("belongs to its invocation", function()
    local f = lambda.start { code = one_of [[
      local kept
      function cases.first(_, context)
        kept = context.stream {content_type = "text/plain"}
        kept:write "first"
      end
      function cases.second()
        local ok, message = pcall(kept.write, kept, "late")
        return not ok or not message
      end
      function cases.third(_, context)
        pcall(kept.write, kept, "late")
        context.stream {content_type = "text/plain"}:write "third"
        pcall(kept.write, kept, "late")
      end
    ]] }
    assert.are.equal("first", invoke(f, "first"):result())
    assert.are.equal("true", invoke(f, "second"):result())
    assert.are.equal("third", invoke(f, "third"):result())
    still_fine(f)
    f:stop()
  end)

  it("is one for each invocation", function()
    local f = lambda.start { code = one_of [[
      function cases.twice(_, context)
        context.stream {content_type = "text/plain"}:write "a"
        pcall(context.stream, {content_type = "text/plain"})
      end
    ]] }
    assert.are.equal("a", invoke(f, "twice"):result())
    still_fine(f)
    f:stop()
  end)
end)

describe("an error of a streaming handler", function()
  lambda.guard(before_each, after_each)

  it("before the first byte is an error like any", function()
    local f = lambda.start { code = one_of [[
      function cases.early(_, context)
        context.stream {content_type = "text/plain"}
        error "early"
      end
      function cases.empty(_, context)
        context.stream {content_type = "text/plain"}:write ""
        error "early"
      end
      function cases.misuse(_, context)
        context.stream {content_type = "text/plain"}:write {}
      end
      function cases.header(_, context)
        context.stream {content_type = "text/plain\r\nX-Evil: 1"}:write "x"
      end
      function cases.delete(_, context)
        context.stream {content_type = "text/\127"}:write "x"
      end
      function cases.number(_, context)
        context.stream {content_type = 5}:write "x"
      end
      function cases.option(_, context)
        context.stream {content_typo = "text/plain"}:write "x"
      end
    ]] }
    for _, name in ipairs { "early", "empty" } do
      assert.matches("early", invoke(f, name):failure "LuaError".errorMessage)
    end
    for _, name in ipairs { "misuse", "header", "delete", "number", "option" }
    do
      local answer = invoke(f, name)
      answer:failure()
      assert.is_nil(answer:header "X-Evil")
    end
    assert.are.equal(0, #f:all { what = "head", kind = "response" })
    still_fine(f)
    f:stop()
  end)

  it("after it is told in the trailers", function()
    local f = lambda.start { code = one_of [[
      function cases.late(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        error "too late"
      end
      function cases.typed(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        error {errorType = "My.Type", errorMessage = "m\u{20AC}\n"}
      end
      function cases.evil(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        error {errorType = "A\r\nX-Evil: 1\r\n\r\n", errorMessage = "m"}
      end
      function cases.large(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        error(("\u{20AC}"):rep(1 << 17), 0)
      end
      function cases.task(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        luapool.apply(function() error "in a task" end)
      end
      function cases.misuse(_, context)
        local out = context.stream {content_type = "text/plain"}
        out:write "begun"
        out:write {}
      end
    ]] }
    local answer = invoke(f, "late")
    is_stream(answer)
    assert.are.equal("begun", answer:result())
    local body = trailing_error(answer, "LuaError")
    assert.matches("main%.lua:%d+: too late$", body.errorMessage)
    assert.is_true(#body.stackTrace >= 1)

    body = trailing_error(invoke(f, "typed"), "My.Type")
    assert.are.equal("m\u{20AC}\n", body.errorMessage)

    answer = invoke(f, "evil")
    assert.is_nil(answer:trailer "X-Evil")
    assert.is_falsy(answer:trailer(TYPE):find "%c")
    trailing_error(answer, (answer:trailer(TYPE)))

    body = trailing_error(invoke(f, "large"), "LuaError")
    assert.matches("^\u{20AC}", body.errorMessage)
    body = trailing_error(invoke(f, "task"), "luapool.task")
    assert.is_truthy(body.errorMessage:find("in a task", 1, true))
    assert.are.equal("begun", invoke(f, "misuse"):result())
    assert.are.equal(0, #f:all { what = "head", kind = "error" })
    still_fine(f)
    f:stop()
  end)

  it("of a pool at the deadline is told in time", function()
    local f = lambda.start { code = one_of [[
      local pool = luapool.Pool(2)
      function cases.slow(_, context)
        context.stream {content_type = "text/plain"}:write "begun"
        pool:apply(gate.sleep, {20})
      end
    ]] }
    local answer = f:invoke { body = '"slow"', deadline = 1 }
    local served = f:wait_for { what = "served", id = answer.id }
    assert.is_true(answer.time - served.time < 1)
    trailing_error(answer, "luapool.timeout")
    still_fine(f)
    f:stop()
  end)
end)

describe("a stream whose end the API does not await", function()
  lambda.guard(before_each, after_each)

  for what, fault in pairs {
    ["413"] = { early = true, status = 413, close = true },
    ["403"] = { early = true, status = 403, close = true },
    ["500"] = { early = true, status = 500 },
    ["a reset"] = { early = true, reset = true },
    ["an end"] = { early = true, cut = 0 },
    ["a late reset"] = { reset = true }, ["a late end"] = { cut = 0 },
    ["a late 500"] = { status = 500 },
  } do
    it("is logged, and is over: " .. what, function()
      fault.at, fault.nth = "response", 1
      local f = lambda.start { unanswered = true, faults = { fault },
        code = one_of [[
          function cases.much(_, context)
            local out = context.stream {content_type = "text/plain"}
            for _ = 1, 200 do
              out:write(("x"):rep(1 << 16))
              gate.sleep(0.001)
            end
          end
        ]] }
      f:wait_idle()
      local said = #f:stderr()
      f:push '"much"'
      f:wait_idle()
      assert.is_true(#f:stderr() > said)
      still_fine(f)
      assert.are.equal(1, #f:all { what = "head", id = "event-1" })
      f:stop()
    end)
  end
end)

describe("the end of a streaming function", function()
  lambda.guard(before_each, after_each)

  it("by SIGTERM comes at once", function()
    local f = lambda.start { unanswered = 1, code = one_of [[
      function cases.slow(_, context)
        local out = context.stream {content_type = "text/plain"}
        while true do out:write "x" gate.sleep(0.01) end
      end
    ]] }
    f:push '"slow"'
    f:wait_for({ what = "chunk" }, 3)
    local result = f:stop()
    assert.are.equal(0, result.status)
    assert.is_true(result.term < 1, result.term)
  end)

  it("by os.exit has its status", function()
    local f = lambda.start { unanswered = 1, code = one_of [[
      function cases.leave(_, context)
        context.stream {content_type = "text/plain"}:write "x"
        os.exit(7)
      end
    ]] }
    f:push '"leave"'
    assert.are.equal(7, f:wait().status)
  end)

  it("has no task run on", function()
    local path = gate.name()
    local f = lambda.start { faults = { { at = "response", delay = 0.3 } },
      code = ([[
        local luapool = require "luapool"
        local gate = require "spec.support.gate"
        local pool = luapool.Pool(2)
        local function beat()
          while true do gate.mark(%q) gate.sleep(0.005) end
        end
        return { handler = function(_, context)
          context.stream {content_type = "text/plain"}:write "x"
          pool:apply_async(beat)
          pool:poll(0.1)
        end }
      ]]):format(path) }
    local answer = f:invoke "{}"
    assert.are.equal("x", answer:result())
    local beats = gate.count(path)
    assert.is_true(beats > 0)
    gate.sleep(0.1)
    assert.are.equal(beats, gate.count(path))
    f:wait_idle()
    f:stop()
  end)
end)
