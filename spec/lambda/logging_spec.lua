-- SPDX-License-Identifier: MIT
-- What a function says beside its answers: one line for each failed event or
-- init, as text or JSON, and what handlers say by context.log and print.
local cjson = require "cjson"
local lambda = require "spec.support.lambda.function"

local CODE = [[
  return { handler = function(event, context)
    if event == "fail" then error "raised\nin two lines \"quoted\"" end
    if event == "typed" then
      error {errorType = "My.Type", errorMessage = "m"}
    end
    if type(event) == "table" then
      for _, line in ipairs(event) do context.log(line[1], line[2]) end
    end
    return event
  end }
]]

local function logs(format, level, opts)
  opts = opts or {}
  opts.code = opts.code or CODE
  opts.env = { AWS_LAMBDA_LOG_FORMAT = format, AWS_LAMBDA_LOG_LEVEL = level }
  return lambda.start(opts)
end

-- All that was said, line by line.
local function lines(result)
  local list = {}
  for line in (result.stdout .. result.stderr):gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  return list
end

-- The lines, each of which must be a JSON object.
local function decoded(result)
  local list = {}
  for i, line in ipairs(lines(result)) do
    local ok, value = pcall(cjson.decode, line)
    assert(ok and type(value) == "table", "no JSON object: " .. line)
    list[i] = value
  end
  return list
end

local TIME = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.?%d*Z$"

-- A line for a failure must hold these.
local function check_failure(line, id, kind, message)
  assert.matches(TIME, line.timestamp)
  assert.are.equal(os.date "!%Y-%m-%d", line.timestamp:sub(1, 10))
  assert.are.equal("ERROR", line.level)
  assert.are.equal(id or cjson.null, line.requestId or cjson.null)
  assert.are.equal(kind, line.errorType)
  assert.matches(message, line.errorMessage)
  assert.are.equal("table", type(line.stackTrace))
  for _, frame in ipairs(line.stackTrace) do
    assert.are.equal("string", type(frame))
  end
end

describe("the log as JSON", function()
  lambda.guard(before_each, after_each)

  it("has one line for each failed event", function()
    local f = logs("JSON", "INFO")
    f:invoke { body = '"fail"', id = "one" }
    f:invoke { body = "3", id = "fine" }
    f:invoke { body = '"typed"', id = "two" }
    f:invoke { body = "{", id = "three" }
    f:invoke { body = "1", id = "four",
      headers = { { "Lambda-Runtime-Client-Context", "{" } } }
    local list = decoded(f:stop())
    assert.are.equal(4, #list)
    check_failure(list[1], "one", "LuaError",
      "main%.lua:2: raised\nin two lines \"quoted\"$")
    assert.is_true(#list[1].stackTrace >= 1)
    check_failure(list[2], "two", "My.Type", "^m$")
    check_failure(list[3], "three", "Runtime.UnmarshalError", ".")
    check_failure(list[4], "four", "Runtime.LambdaContextUnmarshalError", ".")
  end)

  it("has one line for a failed init", function()
    for code, kind in pairs {
      ["error 'at\\nthe start'"] = "Runtime.InitError",
      ["return {"] = "Runtime.UserCodeSyntaxError",
      ["return {}"] = "Runtime.HandlerNotFound",
      ["require 'absent'"] = "Runtime.ImportModuleError",
    } do
      local f = logs("JSON", "INFO", { code = code })
      local list = decoded(f:wait())
      assert.are.equal(1, #list)
      check_failure(list[1], nil, kind, ".")
      local body = f:requests("init_error")[1]:failure(kind)
      assert.are.equal(body.errorMessage, list[1].errorMessage)
      assert.are.same(body.stackTrace, list[1].stackTrace)
    end
  end)

  it("says what the API is told", function()
    local f = logs("JSON", "INFO", { code = [[
      return { handler = function() error("a\xff\0\u{20AC}\27", 0) end }
    ]] })
    local body = f:invoke("{}"):failure "LuaError"
    local list = decoded(f:stop())
    assert.are.equal(1, #list)
    assert.are.equal(body.errorMessage, list[1].errorMessage)
    assert.are.same(body.stackTrace, list[1].stackTrace)
  end)

  it("leaves print alone", function()
    local f = logs("JSON", "ERROR", { code = [[
      print "at the start"
      return { handler = function(event)
        print("text", event)
        io.stderr:write "on stderr\n"
      end }
    ]] })
    f:invoke("1")
    local result = f:stop()
    assert.are.equal("at the start\ntext\t1\n", result.stdout)
    assert.are.equal("on stderr\n", result.stderr)
  end)

  it("holds what handlers log", function()
    local f = logs("JSON", "TRACE")
    f:invoke { id = "one", body = cjson.encode { { "INFO", "hello" },
      { "ERROR", "two\nlines\t\"\\" }, { "DEBUG", "\u{20AC}" },
      { "TRACE", "" } } }
    local list = decoded(f:stop())
    assert.are.equal(4, #list)
    local expected = { "hello", "two\nlines\t\"\\", "\u{20AC}", "" }
    for i, level in ipairs { "INFO", "ERROR", "DEBUG", "TRACE" } do
      assert.are.equal(level, list[i].level)
      assert.are.equal("one", list[i].requestId)
      assert.matches(TIME, list[i].timestamp)
      local texts = {}
      for _, value in pairs(list[i]) do texts[value] = true end
      assert.is_true(texts[expected[i]])
    end
  end)

  it("holds bytes that are no text", function()
    local f = logs("JSON", "INFO", { code = [[
      return { handler = function(_, context)
        context.log("INFO", "a\xff\0b")
        context.log("INFO", ("x"):rep(100000))
      end }
    ]] })
    f:invoke "{}":result()
    assert.are.equal(2, #decoded(f:stop()))
  end)
end)

describe("the log's level", function()
  lambda.guard(before_each, after_each)

  local LEVELS = { "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL" }

  -- Which of the levels come through.
  local function passed(format, level)
    local f = logs(format, level)
    local event = {}
    for i, name in ipairs(LEVELS) do event[i] = { name, "by " .. name } end
    f:invoke(cjson.encode(event)):result()
    local result = f:stop()
    local said, list = result.stdout .. result.stderr, {}
    for _, name in ipairs(LEVELS) do
      if said:find("by " .. name, 1, true) then list[#list + 1] = name end
    end
    return table.concat(list, " ")
  end

  for _, format in ipairs { "JSON", "Text" } do
    it("holds for context.log: " .. format, function()
      for i, name in ipairs(LEVELS) do
        assert.are.equal(table.concat(LEVELS, " ", i), passed(format, name))
      end
    end)
  end

  it("may be written in any case", function()
    assert.are.equal(table.concat(LEVELS, " ", 2), passed("Text", "debug"))
    assert.are.equal("ERROR FATAL", passed("json", "Error"))
    local f = logs("json", "warn")
    f:invoke(cjson.encode { { "info", "hidden" }, { "Warn", "seen" } }):result()
    local list = decoded(f:stop())
    assert.are.equal(1, #list)
    assert.are.equal("WARN", list[1].level)
    assert.are.equal("seen", list[1].message)
  end)

  it("is named in context.log, or that is the handler's error", function()
    for _, format in ipairs { "JSON", "Text" } do
      local f = logs(format, "INFO")
      for _, level in ipairs { '"loud"', '""', "null", "7" } do
        local body = f:invoke('[["INFO","first"],[' .. level .. ',"x"]]')
          :failure "LuaError"
        assert.matches("argument #1 to 'log'", body.errorMessage)
      end
      f:stop()
    end
  end)

  it("that is unknown, or not there, is INFO, the format Text", function()
    for _, pair in ipairs { { false, false }, { "yaml", "LOUD" }, { "", "" },
      { "Text", "9" }, { "JSONL", false } } do
      assert.are.equal("INFO WARN ERROR FATAL", passed(pair[1], pair[2]))
      local f = logs(pair[1], pair[2])
      f:invoke '"fail"'
      local result = f:stop()
      assert.is_truthy(result.stderr:find("raised", 1, true))
      assert.is_false((pcall(cjson.decode, lines(result)[1])))
    end
  end)

  it("hides no failed event", function()
    local f = logs("JSON", "ERROR")
    f:invoke '"fail"'
    assert.are.equal(1, #decoded(f:stop()))
  end)
end)

describe("the log as text", function()
  lambda.guard(before_each, after_each)

  it("names a failed event, its error and its frames", function()
    local f = logs("Text", "INFO")
    f:invoke { body = '"fail"', id = "the-request" }
    local said = f:stop().stderr
    assert.is_truthy(said:find("raised", 1, true))
    assert.is_truthy(said:find("main.lua:2", 1, true))
    assert.is_truthy(said:find("the-request", 1, true), said)
  end)

  it("has a time, the request, the level and the text", function()
    local f = logs("Text", "INFO")
    f:invoke { id = "one", body = '[["WARN","said"],["INFO",5]]' }
    local said = f:stop().stderr
    local time, rest = said:match "^(%S+)\t([^\n]*)\n"
    assert.matches(TIME, time)
    assert.are.equal("one\tWARN\tsaid", rest)
    assert.matches("\tone\tINFO\t5\n$", said)
  end)

  it("has nothing where nothing is wrong", function()
    local f = logs("Text", "INFO")
    f:invoke "1"
    local result = f:stop()
    assert.are.equal("", result.stdout .. result.stderr)
  end)
end)
