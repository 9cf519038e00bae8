-- SPDX-License-Identifier: MIT
-- From the start of a Lambda function to its first request for an event: where
-- the handler is found, and how each failure on the way there is reported.
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local leaks = require "spec.support.leaks"

local ECHO = "return { handler = function(event) return event end }"

-- Starts a function that must fail to start; the decoded error, what it
-- printed.
local function fails(opts, kind)
  local f = lambda.start(opts)
  local result = f:wait()
  local posted = f:requests "init_error"
  assert.are.equal(1, #posted, result.stderr)
  assert.are.equal("POST", posted[1].method)
  assert.are.equal("/2018-06-01/runtime/init/error", posted[1].path)
  assert.are.equal(0, #f:all { what = "head", kind = "next" })
  assert.is_true(result.status > 0 and result.status < 124, result.status)
  local body = posted[1]:failure(kind)
  assert.are_not.equal("", result.stderr)
  return body, result
end

local function starts(opts, event)
  local f = lambda.start(opts)
  local text = f:invoke(event or "{}"):result()
  assert.are.equal(0, #f:requests "init_error")
  assert.are.equal(0, f:stop().status)
  return text
end

describe("a handler's module", function()
  lambda.guard(before_each, after_each)

  it("is loaded once, before the first next", function()
    local path = gate.name()
    local f = lambda.start { code = ([[
      local gate = require "spec.support.gate"
      gate.mark(%q, "loaded ")
      local n = 0
      return { handler = function() n = n + 1 return n end }
    ]]):format(path), faults = { { at = "next", nth = 1, status = 204 } } }
    f:wait_for { what = "head", kind = "next" }
    assert.are.equal("loaded ", gate.read(path))
    for i = 1, 3 do assert.are.equal(tostring(i), f:invoke("{}"):result()) end
    assert.are.equal("loaded ", gate.read(path))
    f:stop()
  end)

  it("is what require gives", function()
    assert.are.equal("true", starts { code = [[
      local M = {}
      function M.handler() return require "main" == M
        and package.loaded.main == M end
      return M
    ]] })
  end)

  it("may be in folders", function()
    for _, folder in ipairs { "a/", "a/b.c/d/" } do
      assert.are.equal('"found"', starts {
        handler = folder .. "orders.place",
        files = { [folder .. "orders.lua"] =
          "return { place = function() return 'found' end }" },
      }, "{}")
    end
  end)

  it("may have dots, of folders or its own", function()
    for _, file in ipairs { "a/b/c.lua", "a/b/c/init.lua", "a/b.c.lua",
      "a/b.c/init.lua" } do
      assert.are.equal('"found"', starts {
        handler = "a/b.c.place",
        files = { [file] = "return { place = function() return 'found' end }" },
      }, "{}")
    end
  end)

  it("may have an object that can be called", function()
    assert.are.equal('["object",5]', starts({ code = [[
      local object = setmetatable({ name = "object" }, {
        __call = function(self, event, context)
          return { self.name, event, context.aws_request_id and nil }
        end,
      })
      return setmetatable({}, { __index = { handler = object } })
    ]] }, "5"))
  end)

  it("leaves no hook", function()
    local f = lambda.start { code = [[
      debug.sethook(function() error "left" end, "", 1000)
    ]] .. ECHO }
    for i = 1, 9 do
      assert.are.equal(tostring(i), f:invoke(tostring(i)):result())
    end
    assert.are.equal(0, f:stop().status)
  end)

  it("in a folder is entered in package.loaded", function()
    assert.are.equal("true", starts {
      handler = "a/orders.place", files = { ["a/orders.lua"] = [[
        local M = {}
        function M.place()
          return package.loaded["a/orders"] == M
            or package.loaded["a.orders"] == M
        end
        return M
      ]] },
    })
  end)

  it("is searched in LAMBDA_TASK_ROOT, whatever the directory", function()
    local other = os.tmpname() .. ".d"
    assert(os.execute("mkdir " .. other))
    local file = assert(io.open(other .. "/main.lua", "w"))
    file:write "return { handler = function() return 'wrong' end }"
    file:close()
    local text = starts({ code = ECHO, cwd = other }, '"right"')
    os.execute(("rm -r %s %s"):format(other, other:sub(1, -3)))
    assert.are.equal('"right"', text)
  end)

  it("is searched in the directory where there is no such variable", function()
    assert.are.equal("[1]", starts({
      code = ECHO, env = { LAMBDA_TASK_ROOT = false },
    }, "[1]"))
  end)

  it("requires others beside it, and init.lua in folders", function()
    assert.are.equal('"both"', starts {
      code = [[
        local a, b = require "lib.a", require "b"
        return { handler = function() return a .. b end }
      ]],
      files = { ["lib/a.lua"] = "return 'bo'", ["b/init.lua"] = "return 'th'" },
    })
  end)

  it("may do without a module that is optional", function()
    assert.are.equal("false", starts {
      code = [[
        local there = pcall(require, "missing.module")
        local sound = pcall(require, "broken")
        return { handler = function() return there or sound end }
      ]],
      files = { ["broken.lua"] = "return +" },
    })
  end)

  it("needs next to nothing of the environment", function()
    assert.are.equal('"x"', starts({ code = ECHO, env = {
      AWS_LAMBDA_FUNCTION_NAME = false, AWS_LAMBDA_FUNCTION_VERSION = false,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE = false, AWS_REGION = false,
      AWS_LAMBDA_LOG_GROUP_NAME = false, AWS_LAMBDA_LOG_STREAM_NAME = false,
      AWS_LAMBDA_INITIALIZATION_TYPE = false, LANG = false, TZ = false,
    } }, '"x"'))
  end)

  it("has its output out before the first next", function()
    local f = lambda.start { code = [[
      io.stdout:setvbuf "full"
      io.write "out without an end"
      io.stderr:setvbuf "full"
      io.stderr:write "err without an end"
      return { handler = print }
    ]] }
    f:wait_for { what = "head", kind = "next" }
    assert.are.equal("out without an end", f:stdout())
    assert.are.equal("err without an end", f:stderr())
    f:stop()
  end)
end)

describe("a handler's name", function()
  lambda.guard(before_each, after_each)

  for _, name in ipairs { "main", "", "main..handler", "../main.handler",
    "..", "a/../main.handler",
    "main.", ".handler", "a/.handler", "." } do
    it(("is malformed: %q"):format(name), function()
      fails({ code = ECHO, handler = name }, "Runtime.MalformedHandlerName")
    end)
  end

  it("is malformed where there is none", function()
    fails({ code = ECHO, env = { _HANDLER = false } },
      "Runtime.MalformedHandlerName")
  end)

  it("gets into no header", function()
    local name = "main\r\nX-Evil: yes\r\n\r\n.handler"
    local f = lambda.start { code = ECHO, handler = name }
    f:wait()
    local posted = f:requests "init_error"
    assert.are.equal(1, #posted)
    assert.is_nil(posted[1]:header "X-Evil")
    posted[1]:failure()
    f = lambda.start { code = ECHO, handler = "main" .. name }
    f:wait()
    assert.is_nil(f:requests("init_error")[1]:header "X-Evil")
  end)
end)

describe("a module that is not found", function()
  lambda.guard(before_each, after_each)

  it("is the handler's", function()
    local body = fails({ handler = "absent.handler" },
      "Runtime.ImportModuleError")
    assert.is_truthy(body.errorMessage:find("absent", 1, true))
  end)

  it("is one that it requires, or that requires", function()
    for _, files in ipairs {
      { ["main.lua"] = 'require "absent.thing" ' .. ECHO },
      { ["main.lua"] = 'require "one" ' .. ECHO,
        ["one.lua"] = 'require "two"', ["two.lua"] = 'require "absent.thing"' },
    } do
      local body = fails({ files = files }, "Runtime.ImportModuleError")
      assert.is_truthy(body.errorMessage:find("absent.thing", 1, true),
        body.errorMessage)
    end
  end)

  it("is one in a missing folder", function()
    fails({ handler = "no/such/main.handler", code = ECHO },
      "Runtime.ImportModuleError")
  end)

  it("is not one that somebody speaks of", function()
    fails({ code = [[error("module 'x' not found:\n\tno field", 0)]] },
      "Runtime.InitError")
    fails({ code = [[error("module 'x' not found:\n\tno field")]] },
      "Runtime.InitError")
  end)
end)

describe("a module with a syntax error", function()
  lambda.guard(before_each, after_each)

  it("is the handler's, and its place is named", function()
    local body = fails({ code = "local x = 1\nreturn {{\n" },
      "Runtime.UserCodeSyntaxError")
    assert.is_truthy(body.errorMessage:find "main%.lua:%d+:")
  end)

  it("is one that it requires, or that requires", function()
    for _, files in ipairs {
      { ["main.lua"] = 'require "bad" ' .. ECHO, ["bad.lua"] = "x = = 1" },
      { ["main.lua"] = 'require "one" ' .. ECHO,
        ["one.lua"] = 'require "bad"', ["bad.lua"] = "goto nowhere" },
    } do
      local body = fails({ files = files }, "Runtime.UserCodeSyntaxError")
      assert.is_truthy(body.errorMessage:find("bad.lua:1:", 1, true))
    end
  end)

  it("is not one that somebody speaks of", function()
    fails({ code = [[error("x.lua:1: syntax error near 'y'", 0)]] },
      "Runtime.InitError")
    fails({ code = "assert(load 'x = = 1')" }, "Runtime.InitError")
  end)
end)

describe("a function that is not there", function()
  lambda.guard(before_each, after_each)

  for what, code in pairs {
    ["no field"] = "return { other = print }",
    ["no table"] = "x = 1",
    ["a global"] = "function handler() end",
    ["a number"] = "return 5",
    ["false"] = "return false",
    ["a field that is a number"] = "return { handler = 5 }",
    ["a field that is a table"] = "return { handler = {} }",
  } do
    it("is reported: " .. what, function()
      local body = fails({ code = code }, "Runtime.HandlerNotFound")
      assert.is_truthy(body.errorMessage:find("handler", 1, true))
    end)
  end
end)

describe("any other failure while loading", function()
  lambda.guard(before_each, after_each)

  for what, case in pairs {
    ["a text"] = { "error 'broken start'", "main%.lua:1: broken start" },
    ["nil"] = { "error(nil)", "^nil$" },
    ["a table"] = { "error {}", "." },
    ["a table that cannot be told"] = {
      "error(setmetatable({}, {__tostring = error}))", "." },
    ["a table that raises when told"] = {
      "error(setmetatable({}, {__tostring = function() error 'told' end}))",
      "." },
    ["a stack overflow"] = {
      "local function f() return 1 + f() end f()", "stack overflow" },
    ["an error of a coroutine"] = {
      "coroutine.wrap(function() error 'inside' end)()", "inside" },
    ["an error while closing"] = {
      "local x <close> = setmetatable({}, {__close = function() "
        .. "error 'closing' end})", "closing" },
    ["a module that raises"] = { "require 'raises'", "it raises" },
    ["a yield"] = { "coroutine.yield()", "yield" },
    ["bytes that are no text"] = { "error('a\\xffb', 0)", "^a\u{FFFD}b$" },
  } do
    it("is reported: " .. what, function()
      local body = fails({
        code = case[1], files = { ["raises.lua"] = "error 'it raises'" },
      }, "Runtime.InitError")
      assert.matches(case[2], body.errorMessage)
    end)
  end

  it("is reported: out of memory", function()
    if lambda.sanitized then pending "the sanitizer needs address space" end
    local body = fails({
      code = "large = ('x'):rep(1 << 30)",
      under = { "prlimit", "--as=300000000" },
    }, "Runtime.InitError")
    assert.are.equal("not enough memory", body.errorMessage)
  end)

  it("is an error of a pool too, and the pool ends", function()
    local body = fails({ code = [[
      local pool = require "luapool".Pool(2)
      kept = pool
      pool:apply_async(function() while true do end end)
      pool:apply(error, {"in a task"})
    ]] }, "Runtime.InitError")
    assert.is_truthy(body.errorMessage:find("in a task", 1, true))
  end)

  it("is cut to 64 KB", function()
    local body = fails({ code = "error(('\u{20AC}'):rep(1 << 20), 0)" },
      "Runtime.InitError")
    assert.is_truthy(body.errorMessage:find "^\u{20AC}\u{20AC}\u{20AC}")
    assert.is_true(#body.errorMessage > 10000)
  end)

  it("has its output out, and names itself on stderr", function()
    local _, result = fails({ code = [[
      io.stdout:setvbuf "full"
      io.write "before the failure"
      error "broken start"
    ]] }, "Runtime.InitError")
    assert.are.equal("before the failure", result.stdout)
    assert.is_truthy(result.stderr:find("broken start", 1, true))
  end)

  for what, fault in pairs {
    ["403"] = { status = 403 }, ["500"] = { status = 500 },
    ["an end"] = { cut = 0 }, ["a reset"] = { reset = true },
    ["half an answer"] = { cut = "head" },
  } do
    it("is posted once, though the answer is " .. what, function()
      fault.at = "init_error"
      fails({ code = "error 'x'", faults = { fault } }, "Runtime.InitError")
    end)
  end
end)

describe("os.exit while loading", function()
  lambda.guard(before_each, after_each)

  it("ends the process with its status, output and pools", function()
    local f = lambda.start { code = [[
      local luapool = require "luapool"
      pool = luapool.Pool(2)
      pool:apply_async(function() while true do end end)
      pool:poll(0.05)
      io.stdout:setvbuf "full"
      io.write "last words"
      os.exit(3)
    ]] }
    local result = f:wait()
    assert.are.equal(3, result.status)
    assert.are.equal("last words", result.stdout)
    assert.are.equal(0, #f:all { what = "head", kind = "next" })
  end)
end)

describe("a runtime", function()
  lambda.guard(before_each, after_each)

  it("without an API to talk to says so and ends with 1", function()
    local f = lambda.start {
      code = ECHO, address = function() return "127.0.0.1:1" end,
    }
    local result = f:wait()
    assert.are.equal(1, result.status)
    assert.matches("could not get the next event", result.stderr)
    assert.is_true(result.seconds < 3, result.seconds)
  end)

  it("that cannot load and has no API says both", function()
    local f = lambda.start {
      code = "error 'at the start'",
      address = function() return "127.0.0.1:1" end,
    }
    local result = f:wait()
    assert.are.equal(1, result.status)
    assert.is_truthy(result.stderr:find("at the start", 1, true))
    assert.is_truthy(result.stderr:find("may be lost", 1, true))
  end)

  it("has no child of its own", function()
    local f = lambda.start { code = ECHO }
    f:wait_idle()
    assert.are.same({}, leaks.children(f:pid()))
    assert.are.same({}, f:workers())
    f:stop()
  end)
end)
