-- SPDX-License-Identifier: MIT
-- `lambdapool local`: Lambda's Invoke operation over real bootstraps, asked
-- over plain HTTP and by AWS's own client.
local cjson = require "cjson"
local endpoint = require "spec.support.lambda.endpoint"
local gate = require "spec.support.gate"
local lambdapool = require "spec.support.lambda.package"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"

local READY = "http://127%.0%.0%.1:(%d+) "
local MB = 1024 * 1024

-- `lambdapool local WORDS...`, by default with the function of all hosts.
local function start(words, opts)
  local line = { lambdapool.command, "local", "--port", "0", "--env-var",
    "LUAPOOL_SPEC_MARK=MARK" }
  for _, word in ipairs(words) do line[#line + 1] = word end
  opts = opts or {}
  if not opts.paths then line[#line + 1] = endpoint.app end
  for _, path in ipairs(opts.paths or {}) do line[#line + 1] = path end
  opts.ready = READY
  return endpoint.start(line, opts)
end

local function header(kind) return { headers = { kind } } end

local TAIL = header "X-Amz-Log-Type: Tail"
local EVENT = header "X-Amz-Invocation-Type: Event"

local function decode64(text)
  local pipe = assert(io.popen("printf %s '" .. text .. "' | base64 -d"))
  local decoded = pipe:read "a"
  pipe:close()
  return decoded
end

local function guard()
  endpoint.guard(before_each, after_each)
  lambdapool.guard(before_each, after_each)
end

describe("lambdapool local", function()
  guard()

  it("runs events in a row in one warm bootstrap", function()
    local s = start {}
    assert.are.equal(1, s:result { "count" })
    assert.are.equal(2, s:result { "count" })
    assert.are.same({ 1, 4, 9 }, s:result { "map", { 1, 2, 3 } })
    assert.are.same({ 16 }, s:result { "map", { 4 } })
    local answer = s:invoke { "echo", { a = "ü", n = cjson.null } }
    assert.are.equal(200, answer.status)
    assert.are.equal("application/json", answer.headers["content-type"])
    assert.are.equal("$LATEST", answer.headers["x-amz-executed-version"])
    assert.truthy(answer.headers["x-amzn-requestid"]:find "^%x+%-%x+%-4%x+%-")
    assert.are.same({ a = "ü", n = cjson.null }, cjson.decode(answer.body))
    assert.are.equal(0, s:stop().status)
  end)

  it("tells the function what Lambda would", function()
    local s = start { "--function-name", "tell", "--memory", "512", "--timeout",
      "9", "--env-var", "COLOUR=blue=green" }
    s.name = "tell"
    local trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    local context = s:result({ "context" }, { headers = {
      "X-Amz-Client-Context: eyJjdXN0b20iOgp7ImEiOiAiYiJ9fQ==",
      "X-Amzn-Trace-Id: " .. trace,
    } })
    assert.are.equal("tell", context.name)
    assert.are.equal(512, context.memory)
    assert.truthy(context.arn:find "^arn:aws:lambda:[%w-]+:%d+:function:tell$")
    assert.are.same({ custom = { a = "b" } }, context.client)
    assert.are.equal(trace, context.trace)
    assert.is_true(context.left > 7000 and context.left <= 9000)
    assert.are.equal("blue=green", s:result { "getenv", "COLOUR" })
    assert.are.equal(":UTC", s:result { "getenv", "TZ" })
    assert.are.equal(cjson.null, s:result { "getenv", "HOME" })
    s:stop()
  end)

  it("has a bootstrap for each of the concurrent events, and no more",
    function()
      local s = start { "--concurrency", "3" }
      local path, sent = gate.name(), {}
      for i = 1, 3 do sent[i] = s:send { "meet", path, 4 } end
      gate.eventually(function()
        s.client:wait(sent[1], 0.01)
        return gate.count(path) == 3
      end)
      local refused = s:invoke { "count" }
      assert.are.equal(429, refused.status)
      assert.are.equal("TooManyRequestsException",
        refused.headers["x-amzn-errortype"])
      assert.are.equal("Rate Exceeded.", cjson.decode(refused.body).message)
      gate.mark(path)
      for i = 1, 3 do
        assert.are.equal("4", s:answer(sent[i]).body)
      end
      assert.are.equal(1, s:result { "count" })
      s:stop()
    end)

  it("runs events that nobody waits for, one after the other", function()
    local s = start { "--concurrency", "1" }
    local path, ids = gate.name(), {}
    for i = 1, 3 do
      local answer = s:invoke({ "mark", path }, EVENT)
      assert.are.equal(202, answer.status)
      assert.are.equal("", answer.body)
      ids[i] = answer.headers["x-amzn-requestid"]
    end
    gate.wait(path, 3)
    for i = 1, 3 do s:wait_for("END RequestId: " .. ids[i]:gsub("-", "%%-")) end
    s:stop()
  end)

  it("only looks at a DryRun", function()
    local s = start {}
    local dry = header "X-Amz-Invocation-Type: DryRun"
    assert.are.equal(204, s:invoke({ "count" }, dry).status)
    assert.are.equal(404, s:invoke({ "count" }, {
      name = "other", headers = dry.headers,
    }).status)
    assert.falsy(s:printed():find "START")
    s:stop()
  end)

  it("answers an error of the function with its body", function()
    local s = start {}
    assert.are.same({ errorType = "LuaError", errorMessage = "boo",
      stackTrace = {} }, (function(e)
        e.stackTrace = {}
        return e
      end)(s:failure { "fail", "boo" }))
    assert.are.equal("Odd", s:failure { "fail", { errorType = "Odd",
      errorMessage = "m" } }.errorType)
    assert.are.equal(1, s:result { "count" })
    s:stop()
  end)

  it("answers with the error of an init that failed", function()
    local dir = lambdapool.directory {
      ["broken.lua"] = "return nil +", ["raises.lua"] = "error 'too early'",
      ["leaves.lua"] = "os.exit(7)",
    }
    local expected = {
      ["broken.f"] = "Runtime.UserCodeSyntaxError",
      ["raises.f"] = "Runtime.InitError",
      ["missing.f"] = "Runtime.ImportModuleError",
    }
    for handler, kind in pairs(expected) do
      local s = start({ "--handler", handler, "--concurrency", "1" },
        { paths = { dir .. "/" } })
      assert.are.equal(kind, s:failure({}).errorType)
      assert.are.equal(kind, s:failure({}).errorType) -- and again
      s:stop()
    end
    local s = start({ "--handler", "leaves.f" }, { paths = { dir .. "/" } })
    local e = s:failure({})
    assert.are.equal("Runtime.ExitError", e.errorType)
    assert.truthy(e.errorMessage:find "exit status 7")
    s:stop()
  end)

  it("ends what takes too long, with all that it has started", function()
    local s = start { "--timeout", "1", "--concurrency", "1" }
    assert.are.equal(1, s:result { "count" })
    local before = gate.now()
    local e = s:failure { "sleep", 87 }
    assert.is_true(gate.now() - before < 3)
    assert.are.equal("Sandbox.Timedout", e.errorType)
    assert.truthy(e.errorMessage:find "Task timed out after 1.00 seconds")
    assert.truthy(s:printed():find "Status: timeout")
    gate.eventually(function()
      return not io.popen("pgrep -xf 'sleep 87'"):read "l"
    end)
    assert.are.equal(1, s:result { "count" }) -- in a new bootstrap
    s:stop()
  end)

  it("begins an init anew that takes too long, once #slow", function()
    local dir = lambdapool.directory {
      ["slow.lua"] = "os.execute 'sleep 87'",
    }
    local s = start({ "--handler", "slow.f" }, { paths = { dir .. "/" } })
    local before = gate.now()
    local e = s:failure({})
    assert.are.equal("Sandbox.Timedout", e.errorType)
    assert.truthy(e.errorMessage:find "after 3.00 seconds")
    local took = gate.now() - before
    assert.is_true(took > 12.5 and took < 16)
    assert.truthy(s:printed():find "INIT_REPORT [^\n]*Status: timeout")
    s:stop()
  end)

  it("leaves it to the runtime to report a task still running", function()
    local s = start { "--timeout", "2" }
    local e = s:failure { "hang" }
    assert.are.equal("luapool.timeout", e.errorType)
    assert.are.equal(1, s:result { "count" })
    s:stop()
  end)

  it("says how a bootstrap ended", function()
    local s = start { "--concurrency", "1" }
    local e = s:failure { "exit", 3 }
    assert.are.equal("Runtime.ExitError", e.errorType)
    assert.truthy(e.errorMessage:find "exit status 3$")
    e = s:failure { "exit", 0 }
    assert.truthy(e.errorMessage:find "without providing a reason$")
    e = s:failure { "kill", "KILL" }
    assert.truthy(e.errorMessage:find "signal: killed$")
    assert.are.equal(1, s:result { "count" })
    s:stop()
  end)

  it("carries 6 MB each way, and no more", function()
    local s = start {}
    local text = ("x"):rep(6 * MB - #'["length",""]')
    assert.are.equal(#text, s:result { "length", text })
    local refused = s:invoke { "length", text .. "x" }
    assert.are.equal(413, refused.status)
    assert.are.equal("RequestTooLargeException",
      refused.headers["x-amzn-errortype"])
    refused = s:invoke({ "length", text:sub(1, MB) }, EVENT)
    assert.are.equal(413, refused.status)
    assert.are.equal(6291554, #s:result { "size", 6291554 })
    assert.are.equal("Function.ResponseSizeTooLarge",
      s:failure { "size", 6291555 }.errorType)
    assert.are.equal(1, s:result { "count" })
    s:stop()
  end)

  it("refuses what Lambda refuses", function()
    local s = start {}
    local function refused(status, kind, event, opts)
      local answer = s:invoke(event, opts)
      assert.are.equal(status, answer.status)
      assert.are.equal(kind, answer.headers["x-amzn-errortype"])
      assert.are.equal("User", cjson.decode(answer.body).Type)
    end
    refused(400, "InvalidRequestContentException", '["count"')
    refused(400, "InvalidRequestContentException", '["count"]',
      header "X-Amz-Client-Context: e30")
    refused(400, "InvalidParameterValueException", '["count"]',
      header "X-Amz-Invocation-Type: Whatever")
    refused(404, "ResourceNotFoundException", "{}", { name = "other" })
    refused(404, "ResourceNotFoundException", "{}", { name = "\xff" })
    refused(404, "ResourceNotFoundException", "{}", { name = "function:7" })
    refused(404, "UnknownOperationException", "{}", { path = "/" })
    refused(404, "UnknownOperationException", nil, { method = "GET" })
    s:stop()
  end)

  it("knows its function by each of its names", function()
    local s = start {}
    for _, name in ipairs {
      "function:$LATEST", "000000000000:function:function",
      "arn:aws:lambda:us-east-1:000000000000:function:function",
      "arn:aws:lambda:us-east-1:000000000000:function:function:$LATEST",
    } do
      assert.are.equal(7, s:result({ "echo", 7 }, { name = name }))
    end
    s:stop()
  end)

  it("shows the log, and gives its end to who asks", function()
    local s = start {}
    local answer = s:invoke({ "print", "seen" }, TAIL)
    local log = decode64(answer.headers["x-amz-log-result"])
    local id = answer.headers["x-amzn-requestid"]
    assert.truthy(log:find("^START RequestId: " .. id:gsub("-", "%%-")))
    assert.truthy(log:find "\nseen\n")
    assert.truthy(log:find "%(err%) seen\n")
    assert.truthy(log:find "\nREPORT [^\n]*Duration: [%d.]+ ms\t"
      and log:find "Init Duration: " and log:find "Max Memory Used: %d+ MB")
    assert.truthy(s:printed():find(log, 1, true))
    answer = s:invoke({ "print", ("long "):rep(2000) }, TAIL)
    assert.are.equal(4096, #decode64(answer.headers["x-amz-log-result"]))
    s:stop()
  end)

  it("gives what a function streams as one answer", function()
    local s = start {}
    assert.are.equal("piece 1\npiece 2\n", s:invoke { "stream", 2 }.body)
    assert.are.equal("after the pieces",
      s:failure { "stream", 2, true }.errorMessage)
    s:stop()
  end)

  it("outlives callers that leave", function()
    local s = start {}
    local path = gate.name()
    for _, operation in ipairs {
      "2015-03-31/functions/function/invocations",
      "2021-11-15/functions/function/response-streaming-invocations",
    } do
      lambdapool.shell("/", ([[bash -c '
        exec 3<>/dev/tcp/127.0.0.1/%d
        printf "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" >&3
        printf "\r\n[\"mark\",\"%s\"]" >&3' ]]):format(s.port,
        operation, #path + #'["mark",""]', path))
    end
    gate.wait(path, 2)
    assert.are.equal(7, s:result { "echo", 7 })
    s:stop()
  end)

  it("runs a package as it is", function()
    local dir = lambdapool.directory()
    lambdapool.output(dir, ("package '%s' -o f.zip"):format(endpoint.app))
    local s = start({ "--handler", "app.handler" },
      { paths = { dir .. "/f.zip" } })
    assert.are.same({ 25 }, s:result { "map", { 5 } })
    s:stop()
  end)

  it("has the files where a package has them, and their edits", function()
    local dir = lambdapool.directory {
      ["src/main.lua"] = [[return { f = function(event)
        if event == "leave" then os.exit(1) end
        return (require "a.b")
      end }]],
      ["src/a/b.lua"] = "return 1",
      ["set.env"] = "# comment\n\nONE=1\nTWO=2\n",
    }
    local s = start({ "--handler", "main.f", "--env-file", dir .. "/set.env",
      "--env-var", "TWO=zwei" }, { paths = { dir .. "/src/" } })
    assert.are.equal(1, s:result {})
    lambdapool.write(dir .. "/src/a/b.lua",
      "return os.getenv 'ONE' .. os.getenv 'TWO'")
    assert.are.equal(1, s:result {}) -- loaded before
    s:failure '"leave"'
    assert.are.equal("1zwei", s:result {})
    s:stop()
  end)
end)

describe("the end of lambdapool local", function()
  guard()

  for _, signal in ipairs { "TERM", "INT", "HUP" } do
    it("by SIG" .. signal .. " leaves nothing", function()
      local s = start { "--timeout", "60" }
      assert.are.same({ 1 }, s:result { "map", { 1 } })
      local root = s:result { "getenv", "LAMBDA_TASK_ROOT" }
      assert.truthy(lfs.attributes(root))
      local path = gate.name()
      s:send({ "mark", path })
      local sent = s:send { "sleep", 87 }
      gate.eventually(function()
        s.client:wait(sent, 0.01)
        return gate.count(path) == 1
      end)
      local before = gate.now()
      assert.are.equal(0, s:stop(signal).status)
      assert.is_true(gate.now() - before < 2)
      assert.falsy(lfs.attributes(root))
    end)
  end

  it("by SIGKILL leaves no process", function()
    local s = start { "--timeout", "60" }
    assert.are.same({ 1 }, s:result { "map", { 1 } })
    local root = s:result { "getenv", "LAMBDA_TASK_ROOT" }
    local sent = s:send { "sleep", 87 }
    gate.eventually(function()
      s.client:wait(sent, 0.01)
      return io.popen("pgrep -xf 'sleep 87'"):read "l"
    end)
    assert.are.equal(137, s:stop("KILL").status)
    os.execute("rm -r " .. root)
  end)

  it("lets a bootstrap with an extension leave by SIGTERM", function()
    local dir, path = lambdapool.directory(), gate.name()
    lambdapool.write(dir .. "/bootstrap", ([[#!/bin/bash
base=http://$AWS_LAMBDA_RUNTIME_API
id=$(curl -sS -D - -H 'Lambda-Extension-Name: x' -d '{"events":["INVOKE"]}' \
  $base/2020-01-01/extension/register | tr -d '\r' |
  sed -n 's/^Lambda-Extension-Identifier: //ip')
events() { curl -sS -H "Lambda-Extension-Identifier: $id" \
  $base/2020-01-01/extension/event/next; }
trap 'printf + >>%s; exit' TERM
(while events >>%s; do :; done) &
while :; do
  head=$(curl -sS -D - -o /dev/null $base/2018-06-01/runtime/invocation/next)
  request=$(sed -n 's/^lambda-runtime-aws-request-id: //ip' <<<"$head")
  curl -sS -d '"done"' -o /dev/null \
    $base/2018-06-01/runtime/invocation/${request%%$'\r'}/response
done
]]):format(path, path .. ".events"))
    lambdapool.shell(dir, "chmod +x bootstrap; python3 -c 'if 1:\n"
      .. " import zipfile\n z = zipfile.ZipFile(\"f.zip\", \"w\")\n"
      .. " z.write(\"bootstrap\")'")
    local s = start({ "--handler", "any.thing" },
      { paths = { dir .. "/f.zip" } })
    assert.are.equal("done", s:result {})
    gate.eventually(function() return gate.count(path .. ".events") > 0 end)
    assert.are.equal("INVOKE",
      cjson.decode(gate.read(path .. ".events")).eventType)
    s:stop()
    assert.are.equal(1, gate.count(path))
    os.remove(path .. ".events")
  end)

  it("is at once where something is wrong", function()
    local dir = lambdapool.directory { ["a.lua"] = "", ["b.lua"] = "" }
    assert.truthy(lambdapool.failure(dir, "local a.lua b.lua", 2)
      :find "--handler")
    assert.truthy(lambdapool.failure(dir, "local a.lua --timeout 901", 2)
      :find "--timeout must be from 1 to 900")
    assert.truthy(lambdapool.failure(dir, "local a.lua --function-name a:b", 2)
      :find("--function-name may have", 1, true))
    assert.truthy(lambdapool.failure(dir, "local none.lua"):find "none.lua")
    assert.truthy(lambdapool.failure(dir, "local a.lua --env-file none")
      :find "none")
    local s = start {}
    assert.truthy(lambdapool.failure(dir, "local a.lua --port " .. s.port)
      :find "could not listen on 127.0.0.1:%d+: Address already in use")
    s:stop()
    assert.is_nil(next(leaks.children()))
  end)
end)

describe("AWS's own client", function()
  guard()
  local it = endpoint.tests_with("python3", it, pending)

  it("invokes, and understands what comes back", function()
    local s = start { "--concurrency", "2", "--timeout", "1" }
    local function invoke(event, more)
      local arguments = { FunctionName = "function",
        Payload = cjson.encode(event) }
      for name, value in pairs(more or {}) do arguments[name] = value end
      return { "invoke", arguments }
    end
    local r = s:boto {
      invoke({ "count" }, { LogType = "Tail" }),
      invoke { "fail", "boo" },
      invoke({ "count" }, { InvocationType = "Event" }),
      invoke({ "count" }, { FunctionName = "other" }),
      { "invoke_with_response_stream", { FunctionName = "function",
        Payload = '["stream",3]', LogType = "Tail" } },
      { "invoke_with_response_stream", { FunctionName = "function",
        Payload = '["stream",3,true]' } },
      { invoke { "sleep", 3 }, invoke { "sleep", 3 }, invoke { "sleep", 3 } },
    }
    assert.are.equal("1", r[1].Payload)
    assert.are.equal(200, r[1].StatusCode)
    assert.truthy(decode64(r[1].LogResult):find "REPORT")
    assert.are.equal("Unhandled", r[2].FunctionError)
    assert.are.equal("boo", cjson.decode(r[2].Payload).errorMessage)
    assert.are.equal(202, r[3].StatusCode)
    assert.are.same({ "ResourceNotFoundException", 404 },
      { r[4].error, r[4].status })
    local text, last = "", r[5].EventStream[#r[5].EventStream]
    for _, event in ipairs(r[5].EventStream) do
      text = text .. (event.PayloadChunk and event.PayloadChunk.Payload or "")
    end
    assert.are.equal("piece 1\npiece 2\npiece 3\n", text)
    assert.truthy(decode64(last.InvokeComplete.LogResult):find "REPORT")
    last = r[6].EventStream[#r[6].EventStream].InvokeComplete
    assert.are.equal("LuaError", last.ErrorCode)
    local timed_out, throttled = 0, 0
    for _, one in ipairs(r[7]) do
      if one.error == "TooManyRequestsException" then
        throttled = throttled + 1
      elseif one.Payload:find "Task timed out after 1.00 seconds" then
        timed_out = timed_out + 1
      end
    end
    assert.are.same({ 2, 1 }, { timed_out, throttled })
    s:stop()
  end)
end)
