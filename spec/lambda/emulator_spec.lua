-- SPDX-License-Identifier: MIT
-- The packaged function in AWS's own runtime interface emulator. It is the
-- Runtime API of Lambda itself, behind an Invoke that is not: every answer is
-- text/plain without headers of Lambda's, the error of a function comes with
-- status 200 like a result, the end of a process and a failed init with 502. It
-- carries a streamed response as a whole, and one event at a time, unless it
-- plays a managed instance.
local cjson = require "cjson"
local endpoint = require "spec.support.lambda.endpoint"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"

local MB = 1024 * 1024

-- Its Runtime API has a port of its own, which is always the same: one emulator
-- at a time.
local ALONE = [[exec 9>>/tmp/luapool-spec-9001.lock
flock -w 40 9 || exit 1
if (exec 3<>/dev/tcp/127.0.0.1/9001) 2>&-; then
  echo "port 9001 is taken"
  exit 1
fi
exec "$@"]]

local root -- what the package of the function holds

-- The emulator under a command, for a bootstrap.
local function launch(under, bootstrap, env)
  local port = endpoint.free_port()
  local words = { "bash", "-c", ALONE, "alone" }
  table.move(under, 1, #under, #words + 1, words)
  for _, word in ipairs { endpoint.program "aws-lambda-rie",
    "--runtime-interface-emulator-address", "127.0.0.1:" .. port, bootstrap } do
    words[#words + 1] = word
  end
  return endpoint.start(words, { port = port, directory = root, env = env })
end

local function start(handler, timeout)
  return launch({}, "./bootstrap", {
    _HANDLER = handler, LAMBDA_TASK_ROOT = root,
    AWS_LAMBDA_FUNCTION_TIMEOUT = timeout or 5,
  })
end

-- As on a managed instance: the emulator then starts /var/task/bootstrap alone,
-- as Lambda's user.
local function start_managed(concurrency)
  return launch({ "bwrap", "--die-with-parent", "--ro-bind", "/", "/",
    "--dev-bind", "/dev", "/dev", "--bind", "/tmp", "/tmp", "--tmpfs", "/var",
    "--ro-bind", root, "/var/task", "--chdir", "/var/task" },
    "/var/task/bootstrap", {
      _HANDLER = "app.handler", AWS_LAMBDA_FUNCTION_TIMEOUT = 9,
      AWS_LAMBDA_MAX_CONCURRENCY = concurrency,
    })
end

local function is_root()
  local pipe <close> = assert(io.popen "id -u")
  return pipe:read "n" == 0
end

local function decoded(s, event)
  local answer = s:invoke(event)
  assert.are.equal(200, answer.status)
  return cjson.decode(answer.body)
end

-- The answers to n such events, sent before any is answered.
local function at_once(s, n, event)
  local sent = {}
  for i = 1, n do sent[i] = s:send(event) end
  for i = 1, n do sent[i] = s:answer(sent[i]).body end
  return table.concat(sent, " ")
end

describe("in AWS's emulator a function", function()
  setup(function() root = endpoint.unpack() end)
  teardown(function() os.execute("rm -r " .. root) end)
  endpoint.guard(before_each, after_each)
  local it = endpoint.tests_with("aws-lambda-rie", it, pending)

  it("starts, and runs events in a row", function()
    local s = start "app.handler"
    for i = 1, 50 do assert.are.equal(i, decoded(s, { "count" })) end
    assert.are.same({ 1, 4, 9 }, decoded(s, { "map", { 1, 2, 3 } }))
    assert.are.same({ 25 }, decoded(s, { "map", { 5 } }))
    assert.are.same({ { a = "ü", n = cjson.null } },
      { decoded(s, { "echo", { a = "ü", n = cjson.null } }) })
    assert.truthy(s:printed():find "INIT RTDONE%(status: success%)")
    assert.truthy(s:printed():find "Internal agent luapool")
    s:stop()
  end)

  it("knows what it is", function()
    local s = start "app.handler"
    local answer = s:invoke({ "context" }, {
      headers = { "X-Amz-Client-Context: eyJjdXN0b20iOnt9fQ==" },
    })
    local context = cjson.decode(answer.body)
    assert.are.equal("test_function", context.name) -- the emulator's
    assert.truthy(context.arn:find ":function:test_function$")
    assert.are.same({ custom = {} }, context.client)
    assert.is_true(context.left > 3000 and context.left <= 5000)
    assert.truthy(s:printed():find("START RequestId: " .. context.id, 1, true))
    assert.are.equal(cjson.null, decoded(s, { "print", "on paper" }))
    s:wait_for "\non paper\n"
    s:stop()
  end)

  it("reports its errors, and goes on", function()
    local s = start "app.handler"
    assert.are.equal("boo", decoded(s, { "fail", "boo" }).errorMessage)
    assert.are.equal("LuaError", decoded(s, { "fail", "boo" }).errorType)
    assert.are.equal("Runtime.MarshalError",
      decoded(s, { "unfit" }).errorType)
    assert.are.equal("Runtime.UnmarshalError",
      decoded(s, '{"bad"').errorType) -- Lambda itself refuses such an event
    assert.are.equal(1, decoded(s, { "count" }))
    s:stop()
  end)

  it("says why its init failed", function()
    for handler, kind in pairs {
      ["broken.f"] = "Runtime.UserCodeSyntaxError",
      ["raises.f"] = "Runtime.InitError",
      ["missing.f"] = "Runtime.ImportModuleError",
      ["raises"] = "Runtime.MalformedHandlerName",
    } do
      local s = start(handler)
      local answer = s:invoke {}
      assert.are.equal(502, answer.status)
      -- The emulator starts the runtime a second time and then at times has
      -- lost what the first one posted.
      if answer.body ~= "" then
        assert.are.equal(kind, cjson.decode(answer.body).errorType)
      end
      s:wait_for("ERROR\t" .. kind)
      s:stop()
    end
  end)

  it("is ended at its time-out, and started anew", function()
    local s = start("app.handler", 1)
    assert.are.equal(1, decoded(s, { "count" }))
    local answer = s:invoke { "sleep", 87 }
    -- Lambda has these words in the body of an error.
    assert.are.equal("Task timed out after 1.00 seconds", answer.body)
    assert.are.equal(1, decoded(s, { "count" }))
    s:stop()
  end)

  it("reports the task that its time-out finds", function()
    local s = start("app.handler", 2)
    local e = decoded(s, { "hang" })
    assert.are.equal("luapool.timeout", e.errorType)
    assert.truthy(e.errorMessage:find "os.execute")
    assert.are.equal(1, decoded(s, { "count" })) -- in the same process
    s:stop()
  end)

  it("may leave", function()
    local s = start "app.handler"
    for status, text in pairs {
      [3] = "exit status 3", [0] = "without providing a reason",
    } do
      local answer = s:invoke { "exit", status }
      assert.are.equal(502, answer.status) -- Lambda: 200, X-Amz-Function-Error
      local e = cjson.decode(answer.body)
      assert.are.equal("Runtime.ExitError", e.errorType)
      assert.truthy(e.errorMessage:find(text))
      assert.are.equal(1, decoded(s, { "count" }))
    end
    s:stop()
  end)

  it("gets and gives 6 MB", function()
    local s = start "app.handler"
    local text = ("x"):rep(6 * MB - #'["length",""]')
    assert.are.equal(#text, decoded(s, { "length", text }))
    assert.are.equal(6291554, #decoded(s, { "size", 6291554 }))
    local e = decoded(s, { "size", 6291555 })
    assert.are.equal("Function.ResponseSizeTooLarge", e.errorType)
    assert.truthy(e.errorMessage:find "6291557" and e.errorMessage
      :find "6291556")
    assert.are.equal(1, decoded(s, { "count" }))
    s:stop()
  end)

  it("streams", function()
    local s = start "app.handler"
    local pieces = {}
    for i = 1, 1000 do pieces[i] = "piece " .. i .. "\n" end
    assert.are.equal(table.concat(pieces), s:invoke { "stream", 1000 }.body)
    assert.are.equal(1, decoded(s, { "count" }))
    s:stop()
  end)

  it("runs concurrent events, where it may", function()
    if not is_root() then
      pending "only root can have the emulator's managed mode"
    end
    local s = start_managed(3)
    -- It refuses an event that finds no poller waiting, and answers before the
    -- poller that ran one waits again.
    gate.eventually(function()
      local before = gate.now()
      return at_once(s, 3, { "sleep", 0.5 }) == "null null null"
        and gate.now() - before < 1.4
    end)
    gate.eventually(function()
      return s:invoke { "echo", 7 }.body == "7"
    end)
    s:stop()
  end)

  it("ends with it, and its workers", function()
    local s = start "app.handler"
    assert.are.same({ 1 }, decoded(s, { "map", { 1 } }))
    assert.is_true(#s:processes() >= 4)
    s:stop()
    assert.are.same({}, faults.marked(s.mark))
  end)
end)
