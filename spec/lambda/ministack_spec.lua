-- SPDX-License-Identifier: MIT
-- The packaged function in MiniStack, another maker's AWS, by AWS's own client:
-- deployed, invoked, concurrent. Unlike Lambda it decodes results and encodes
-- them anew, has a size limit for nothing, hands a streamed response over as
-- one piece of JSON, drops the error after it, and at a time-out ends the
-- bootstrap but not what that has started.
local cjson = require "cjson"
local endpoint = require "spec.support.lambda.endpoint"
local gate = require "spec.support.gate"
local lambdapool = require "spec.support.lambda.package"

local MB = 1024 * 1024

local zip

local function create(name, handler, more)
  local arguments = {
    FunctionName = name, Runtime = "provided.al2023", Handler = handler,
    Role = "arn:aws:iam::000000000000:role/none", Timeout = 5,
    MemorySize = 3538, Code = { ZipFile = { file = zip } },
  }
  for key, value in pairs(more or {}) do arguments[key] = value end
  return { "create_function", arguments }
end

local function invoke(name, event, more)
  local arguments = { FunctionName = name, Payload = cjson.encode(event) }
  for key, value in pairs(more or {}) do arguments[key] = value end
  return { "invoke", arguments }
end

-- Makes the calls in a server of their own; returns their results.
local function run(calls)
  local port = endpoint.free_port()
  local s = endpoint.start({ endpoint.program "python3", "-m", "ministack" }, {
    port = port,
    env = {
      BIND_HOST = "127.0.0.1", GATEWAY_PORT = port,
      TMPDIR = lambdapool.directory(),
    },
  })
  local results = s:boto(calls)
  s:stop()
  return results
end

local function payload(result)
  if not result.Payload or result.FunctionError then
    error(cjson.encode(result), 2)
  end
  return cjson.decode(result.Payload)
end

local function failure(result)
  assert.are.equal("Unhandled", result.FunctionError)
  return cjson.decode(result.Payload)
end

describe("in MiniStack a function", function()
  setup(function() zip = endpoint.package() end)
  teardown(function() os.execute("rm -r " .. zip:match "^(.*)/") end)
  endpoint.guard(before_each, after_each)
  lambdapool.guard(before_each, after_each)
  local it = endpoint.tests_with("ministack", it, pending)

  it("starts, and runs events in a row", function()
    local calls = { create("f", "app.handler") }
    for i = 2, 11 do calls[i] = invoke("f", { "count" }) end
    calls[12] = invoke("f", { "map", { 1, 2, 3 } })
    calls[13] = invoke("f", { "context" })
    calls[14] = invoke("f", { "print", "on paper" }, { LogType = "Tail" })
    local r = run(calls)
    assert.are.equal("provided.al2023", r[1].Runtime)
    for i = 2, 11 do assert.are.equal(i - 1, payload(r[i])) end
    assert.are.same({ 1, 4, 9 }, payload(r[12]))
    local context = payload(r[13])
    assert.are.equal("f", context.name)
    assert.are.equal(3538, context.memory)
    assert.truthy(context.arn:find ":function:f$")
    assert.is_true(context.left > 3000 and context.left <= 5000)
    assert.truthy(r[14].LogResult)
  end)

  it("runs concurrent events, each in an environment of its own", function()
    local path = gate.name()
    local meeting = invoke("f", { "meet", path, 3 })
    local slow = invoke("g", { "sleep", 1 })
    local r = run {
      create("f", "app.handler"), { meeting, meeting, meeting },
      create("g", "app.handler"),
      { "put_function_concurrency", { FunctionName = "g",
        ReservedConcurrentExecutions = 2 } },
      { slow, slow, slow },
    }
    for i = 1, 3 do assert.are.equal(3, payload(r[2][i])) end
    local refused = 0
    for _, result in ipairs(r[5]) do
      if result.error == "TooManyRequestsException" then
        assert.are.equal(429, result.status)
        refused = refused + 1
      end
    end
    assert.are.equal(1, refused)
  end)

  it("reports its errors, and those of its init", function()
    local r = run {
      create("f", "app.handler"), invoke("f", { "fail", "boo" }),
      invoke("f", { "unfit" }), invoke("f", { "count" }),
      create("a", "broken.f"), invoke("a", {}),
      create("b", "raises.f"), invoke("b", {}),
      create("c", "missing.f"), invoke("c", {}),
    }
    assert.are.equal("boo", failure(r[2]).errorMessage)
    assert.are.equal("LuaError", failure(r[2]).errorType)
    assert.are.equal("Runtime.MarshalError", failure(r[3]).errorType)
    assert.are.equal(1, payload(r[4]))
    -- Lambda answers with the error as it was posted, this host with a text
    -- that quotes it.
    for i, kind in pairs {
      [6] = "UserCodeSyntaxError", [8] = "InitError",
      [10] = "ImportModuleError",
    } do
      local text = failure(r[i]).errorMessage
      assert.truthy(text:find("Runtime." .. kind, 1, true))
    end
  end)

  it("is ended at its time-out, may leave, and starts anew", function()
    local r = run {
      create("f", "app.handler", { Timeout = 1 }),
      invoke("f", { "sleep", 3 }), invoke("f", { "count" }),
      invoke("f", { "exit", 3 }), invoke("f", { "count" }),
      create("g", "app.handler", { Timeout = 2 }),
      invoke("g", { "hang" }), invoke("g", { "count" }),
    }
    assert.truthy(failure(r[2]).errorMessage
      :find "Task timed out after 1.00 seconds")
    assert.are.equal(1, payload(r[3]))
    assert.are.equal("Runtime.ExitError", failure(r[4]).errorType)
    assert.are.equal(1, payload(r[5]))
    assert.are.equal("luapool.timeout", failure(r[7]).errorType)
    assert.are.equal(1, payload(r[8])) -- in the same process
  end)

  it("gets and gives 6 MB", function()
    local text = ("x"):rep(6 * MB - #'["length",""]')
    local r = run {
      create("f", "app.handler"), invoke("f", { "length", text }),
      invoke("f", { "size", 6291554 }), invoke("f", { "size", 6291555 }),
      invoke("f", { "count" }),
    }
    assert.are.equal(#text, payload(r[2]))
    assert.are.equal(6291554, #payload(r[3]))
    -- The runtime's own limit: this host has none.
    assert.are.equal("Function.ResponseSizeTooLarge", failure(r[4]).errorType)
    assert.are.equal(1, payload(r[5]))
  end)

  it("streams", function()
    local r = run {
      create("f", "app.handler"),
      { "invoke_with_response_stream", { FunctionName = "f",
        Payload = '["stream",1000]' } },
    }
    local text = {}
    for _, event in ipairs(r[2].EventStream) do
      text[#text + 1] = event.PayloadChunk and event.PayloadChunk.Payload
    end
    local pieces = {}
    for i = 1, 1000 do pieces[i] = "piece " .. i .. "\n" end
    assert.are.equal(table.concat(pieces), cjson.decode(table.concat(text)))
  end)
end)
