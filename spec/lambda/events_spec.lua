-- SPDX-License-Identifier: MIT
-- What a handler is given: the event, the context, and the trace id in the
-- environment; and how events that are not right are answered.
local cjson = require "cjson"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

-- Tells the context as it was seen, types included.
local TELL = [[
  local M = {}
  function M.handler(event, context)
    local seen = {}
    for _, name in ipairs { "aws_request_id", "function_name",
      "function_version", "memory_limit_in_mb", "log_group_name",
      "log_stream_name", "invoked_function_arn", "client_context", "identity",
      "tenant_id", "deadline_ms" } do
      seen[name] = context[name]
      seen[name .. "_type"] = math.type(context[name]) or type(context[name])
    end
    seen.trace = os.getenv "_X_AMZN_TRACE_ID"
    seen.left = context.get_remaining_time_in_millis()
    seen.also_left = context:get_remaining_time_in_millis()
    seen.unlimited = seen.left == math.huge
    if seen.unlimited then seen.left, seen.also_left = nil, nil end
    return seen
  end
  return M
]]

local ECHO = "return { handler = function(event) return event end }"

-- Header by header, and false for one that is not there.
local function tell(f, headers, opts)
  local event = opts or {}
  event.headers = headers
  return cjson.decode(f:invoke(event):result())
end

describe("the context", function()
  lambda.guard(before_each, after_each)

  it("tells of the function", function()
    local f = lambda.start { code = TELL }
    local seen = tell(f, {}, { id = "the-id" })
    assert.are.equal("the-id", seen.aws_request_id)
    assert.are.equal("spec", seen.function_name)
    assert.are.equal("$LATEST", seen.function_version)
    assert.are.equal(3538, seen.memory_limit_in_mb)
    assert.are.equal("integer", seen.memory_limit_in_mb_type)
    assert.are.equal("/aws/lambda/spec", seen.log_group_name)
    assert.are.equal("2026/11/21/[$LATEST]0123456789abcdef",
      seen.log_stream_name)
    assert.are.equal("arn:aws:lambda:eu-central-1:123456789012:function:spec",
      seen.invoked_function_arn)
    for _, name in ipairs { "client_context", "identity", "tenant_id" } do
      assert.are.equal("nil", seen[name .. "_type"])
    end
    f:stop()
  end)

  it("tells of the caller, with Lambda's key names", function()
    local f = lambda.start { code = TELL }
    local client = '{"client":{"installation_id":"i","app_title":"t"},'
      .. '"custom":{"n":9007199254740993},"env":{}}'
    local identity = '{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}'
    local record = f:invoke { headers = {
      { "Lambda-Runtime-Client-Context", client },
      { "Lambda-Runtime-Cognito-Identity", identity },
      { "Lambda-Runtime-Aws-Tenant-Id", "tenant 7" },
    } }
    local seen = cjson.decode(record:result())
    assert.are.same(cjson.decode(client), seen.client_context)
    assert.is_truthy(record:text():find("9007199254740993", 1, true))
    assert.are.same(cjson.decode(identity), seen.identity)
    assert.are.equal("tenant 7", seen.tenant_id)
    -- None of it stays for the next.
    seen = tell(f, {})
    for _, name in ipairs { "client_context", "identity", "tenant_id" } do
      assert.are.equal("nil", seen[name .. "_type"])
    end
    f:stop()
  end)

  it("tells how much time is left", function()
    local f = lambda.start { code = TELL }
    local seen = tell(f, {}, { deadline = 20 })
    assert.are.equal("integer", seen.deadline_ms_type)
    assert.is_true(seen.left > 18000 and seen.left <= 20000, seen.left)
    assert.is_true(seen.also_left > 18000 and seen.also_left <= seen.left)
    assert.is_false(seen.unlimited)
    f:stop()
  end)

  it("has no time left past the deadline", function()
    local f = lambda.start { code = TELL }
    for _, past in ipairs { -5, 0, -1e6 } do
      local seen = tell(f, {}, { deadline = past })
      assert.are.equal(0, seen.left)
      assert.are.equal(0, seen.also_left)
    end
    f:stop()
  end)

  it("has functions for a dot and a colon", function()
    local f = lambda.start { code = [[
      return { handler = function(event, context)
        context:log("WARN", "by colon")
        context.log("WARN", "by dot")
        local stream = event == 1 and context.stream or nil
        local out = stream and stream {content_type = "text/plain"}
          or context:stream {content_type = "text/plain"}
        out:write(tostring(event))
      end }
    ]] }
    for _, event in ipairs { "1", "2" } do
      local answer = f:invoke(event)
      assert.are.equal(event, answer:result())
      assert.are.equal("text/plain", (answer:header "Content-Type"))
    end
    local said = f:stop().stderr
    assert.are.equal(2, select(2, said:gsub("by colon", "")))
    assert.are.equal(2, select(2, said:gsub("by dot", "")))
  end)

  it("goes along into tasks", function()
    local f = lambda.start { code = [[
      local luapool = require "luapool"
      local pool = luapool.Pool(1)
      local function task(context)
        context.log("WARN", "from a task")
        return {context.aws_request_id, context.client_context.a,
          context.get_remaining_time_in_millis()}
      end
      return { handler = function(_, context)
        local by_value = pool:apply(task, {context})
        local captured = pool:apply(function() return task(context) end)
        return {by_value, captured}
      end }
    ]] }
    local seen = tell(f, { { "Lambda-Runtime-Client-Context", '{"a":1}' } },
      { id = "the-id", deadline = 20 })
    for i = 1, 2 do
      assert.are.equal("the-id", seen[i][1])
      assert.are.equal(1, seen[i][2])
      assert.is_true(seen[i][3] > 15000 and seen[i][3] <= 20000)
    end
    assert.are.equal(2, select(2, f:stop().stderr:gsub("the%-id\tWARN\tfrom a "
      .. "task\n", "")))
  end)

  it("counts the time down", function()
    local f = lambda.start { code = [[
      local gate = require "spec.support.gate"
      return { handler = function(event, context)
        local first = context.get_remaining_time_in_millis()
        gate.sleep(0.2)
        return first - context.get_remaining_time_in_millis()
      end }
    ]] }
    local passed = tonumber(f:invoke("{}"):result())
    assert.is_true(passed >= 190 and passed < 1500, passed)
    f:stop()
  end)

  it("has no end where there is no deadline, or an empty one", function()
    local f = lambda.start { code = TELL }
    for _, value in ipairs { false, "" } do
      local seen = tell(f, { { "Lambda-Runtime-Deadline-Ms", value } })
      assert.is_true(seen.unlimited)
      assert.are.equal("nil", seen.deadline_ms_type)
    end
    f:stop()
  end)

  it("survives deadlines that are none", function()
    local f = lambda.start { code = TELL }
    for _, value in ipairs { "soon", "-5", "12.5", "1e3", "0x10", "nan", "inf",
      "99999999999999999999999", "9223372036854775807", "1 2", "-",
      "-9223372036854775808" } do
      local seen = tell(f, { { "Lambda-Runtime-Deadline-Ms", value } })
      assert.is_true(seen.unlimited or seen.left >= 0, value)
    end
    f:stop()
  end)

  it("reads header names in any case", function()
    local f = lambda.start { code = TELL }
    for _, names in ipairs { "lower", "upper", "odd" } do
      local seen = tell(f, {
        { "Lambda-Runtime-Client-Context", '{"a":1}' },
        { "Lambda-Runtime-Cognito-Identity", '{"b":2}' },
        { "Lambda-Runtime-Aws-Tenant-Id", "t" },
      }, { names = names, id = "id-" .. names, deadline = 10 })
      assert.are.equal("id-" .. names, seen.aws_request_id)
      assert.are.same({ a = 1 }, seen.client_context)
      assert.are.same({ b = 2 }, seen.identity)
      assert.are.equal("t", seen.tenant_id)
      assert.is_truthy(seen.trace)
      assert.is_truthy(seen.invoked_function_arn)
      assert.is_true(seen.left > 0 and seen.left <= 10000)
    end
    f:stop()
  end)

  it("takes an empty header for an absent one", function()
    local f = lambda.start { code = TELL }
    for _, value in ipairs { "", "   ", false } do
      local seen = tell(f, {
        { "Lambda-Runtime-Client-Context", value },
        { "Lambda-Runtime-Cognito-Identity", value },
        { "Lambda-Runtime-Aws-Tenant-Id", value },
        { "Lambda-Runtime-Invoked-Function-Arn", value },
        { "Lambda-Runtime-Trace-Id", value },
        { "Lambda-Runtime-Deadline-Ms", value },
      })
      for _, name in ipairs { "client_context", "identity", "tenant_id",
        "invoked_function_arn", "deadline_ms" } do
        assert.are.equal("nil", seen[name .. "_type"], name)
      end
      assert.is_nil(seen.trace)
      assert.is_true(seen.unlimited)
    end
    f:stop()
  end)

  for header, what in pairs {
    ["Lambda-Runtime-Client-Context"] = "client context",
    ["Lambda-Runtime-Cognito-Identity"] = "identity",
  } do
    it("is an error where it is no JSON: " .. what, function()
      local path = gate.name()
      local f = lambda.start { code = ([[
        local gate = require "spec.support.gate"
        return { handler = function(event) gate.mark(%q) return event end }
      ]]):format(path) }
      for _, value in ipairs { "{", "not json", '{"a":1e400}', "{}{}",
        '{"a":"\xff"}' } do
        f:invoke { headers = { { header, value } } }
          :failure "Runtime.LambdaContextUnmarshalError"
      end
      assert.are.equal(0, gate.count(path))
      assert.are.equal("7", f:invoke("7"):result())
      f:stop()
    end)
  end
end)

describe("the trace id", function()
  lambda.guard(before_each, after_each)

  it("is in the environment while its event is handled", function()
    local f = lambda.start { code = [[
      return { handler = function()
        local pipe <close> = io.popen "printf %s \"$_X_AMZN_TRACE_ID\""
        return { os.getenv "_X_AMZN_TRACE_ID" or "absent", pipe:read "a" }
      end }
    ]], env = { _X_AMZN_TRACE_ID = "Root=of-the-start" } }
    for _, id in ipairs { "Root=1-a-b;Parent=c;Sampled=0", "other", false,
      "again", "" } do
      local seen = tell(f, { { "Lambda-Runtime-Trace-Id", id } })
      local given = id ~= "" and id or nil
      assert.are.same({ given or "absent", given or "" }, seen)
    end
    f:stop()
  end)
end)

describe("an event", function()
  lambda.guard(before_each, after_each)

  it("is decoded whatever its content type says", function()
    local f = lambda.start { code = ECHO }
    for _, value in ipairs { "text/plain", "image/png", "", false, "nonsense" }
    do
      local event = { body = '{"a":[1,2]}',
        headers = { { "Content-Type", value } } }
      assert.are.equal('{"a":[1,2]}', f:invoke(event):result())
    end
    f:stop()
  end)

  it("is nil where the body is empty, or null", function()
    local f = lambda.start { code =
      "return { handler = function(...) return select('#', ...) .. "
        .. "type((...)) end }" }
    assert.are.equal('"2nil"', f:invoke(""):result())
    assert.are.equal('"2nil"', f:invoke("null"):result())
    assert.are.equal('"2nil"', f:invoke(" null\n"):result())
    f:stop()
  end)

  it("that is no JSON is an error, and the next is handled", function()
    local path = gate.name()
    local f = lambda.start { code = ([[
      local gate = require "spec.support.gate"
      return { handler = function(event) gate.mark(%q) return event end }
    ]]):format(path) }
    for _, body in ipairs { "{", "nonsense", " ", "{'a':1}", "\0", "[1,]" } do
      local answer = f:invoke(body)
      answer:failure "Runtime.UnmarshalError"
      assert.are.equal("POST", answer.method)
      assert.matches("^/2018%-06%-01/runtime/invocation/event%-%d+/error$",
        answer.path)
    end
    assert.are.equal(0, gate.count(path))
    assert.are.equal("[1]", f:invoke("[1]"):result())
    f:stop()
  end)

  it("without an id is logged and skipped", function()
    local path = gate.name()
    local f = lambda.start { unanswered = true, code = ([[
      local gate = require "spec.support.gate"
      return { handler = function(event) gate.mark(%q) return event end }
    ]]):format(path) }
    f:wait_idle()
    local said = #f:stderr()
    for _, value in ipairs { false, "" } do
      f:push { headers = { { "Lambda-Runtime-Aws-Request-Id", value } } }
    end
    assert.are.equal("3", f:invoke("3"):result())
    assert.are.equal(1, gate.count(path))
    assert.is_true(#f:stderr() > said)
    f:wait_idle()
    assert.are.equal(1, #f:requests "response")
    assert.are.equal(0, #f:requests "error")
    assert.are.equal(0, #f:requests "other")
    f:stop()
  end)

  it("may be of 6 MB", function()
    local f = lambda.start { code =
      "return { handler = function(event) return #event end }" }
    local body = '"' .. ("x"):rep(6 * 1024 * 1024 - 2) .. '"'
    assert.are.equal(tostring(#body - 2), f:invoke(body):result())
    f:stop()
  end)

  it("may arrive in any pieces", function()
    local f = lambda.start { code = ECHO }
    local body = '{"text":"\u{20AC}\u{E9}","list":[1,2,3]}'
    for _, how in ipairs { { pieces = 1 }, { chunked = 1 },
      { chunked = 5, pieces = 3 }, { delay = 0.1 } } do
      how.body = body
      local decoded = cjson.decode(f:invoke(how):result())
      assert.are.same(cjson.decode(body), decoded)
    end
    f:stop()
  end)
end)

describe("a request id", function()
  lambda.guard(before_each, after_each)

  local IDS = { "plain-0123", "a b", "a/b", "/", "a?b#c", "..", ".", "%41",
    "%0d%0aX-Evil: 1", "\u{FC}", "x&y=z;a+b", '"<>\\^`{|}', "a\tb",
    ("0123456789abcdef"):rep(50) }

  local function check(f, kind, event)
    for _, id in ipairs(IDS) do
      local answer = f:invoke { id = id, body = event }
      assert.are.equal(kind, answer.kind)
      local name = answer.path:match(
        "^/2018%-06%-01/runtime/invocation/(.*)/" .. kind .. "$")
      assert.matches("^[%w%-._~%%]+$", name)
      assert.is_nil(name:gsub("%%%x%x", ""):find "%%", name)
    end
    assert.are.equal(0, #f:requests "other")
  end

  it("is percent-encoded in the path of a response", function()
    local f = lambda.start { code = [[
      return { handler = function(_, context)
        return context.aws_request_id
      end }
    ]] }
    check(f, "response", "{}")
    for i, answer in ipairs(f:requests "response") do
      assert.are.equal(IDS[i], answer:json())
    end
    f:stop()
  end)

  it("is percent-encoded in the path of an error", function()
    local f = lambda.start { code = "return { handler = error }" }
    check(f, "error", '"x"')
    f:stop()
  end)
end)

describe("an invocation id", function()
  lambda.guard(before_each, after_each)

  local NAME = "Lambda-Runtime-Invocation-Id"

  it("is carried back, and only there", function()
    local f = lambda.start { code = [[
      return { handler = function(event)
        if event == "raise" then error "x" end
        return event
      end }
    ]] }
    for _, body in ipairs { "1", '"raise"', "{" } do
      for _, value in ipairs { "inv-1", false, "inv 2;x", "" } do
        local answer = f:invoke { body = body, headers = { { NAME, value } } }
        local found, n = answer:header(NAME)
        if value and value ~= "" then
          assert.are.same({ value, 1 }, { found, n })
        else
          assert.is_nil(found)
        end
      end
    end
    for _, kind in ipairs { "next", "register", "extension_next" } do
      for _, request in ipairs(f:requests(kind)) do
        assert.is_nil(request:header(NAME))
      end
    end
    f:stop()
  end)
end)
