-- SPDX-License-Identifier: MIT
-- The handlers of scripts/lambda, each as a function of its own.
local cjson = require "cjson"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local lfs = require "lfs"

local DIR = "scripts/lambda/"

local function start(name)
  return lambda.start {
    files = { [name .. ".lua"] = gate.read(DIR .. name .. ".lua") },
    handler = name .. ".handler",
  }
end

local function response(f, event)
  local answer = f:invoke(event)
  assert.are.equal("response", answer.kind, answer:text())
  return answer:text(), answer
end

local function failure(f, event)
  local answer = f:invoke(event)
  assert.are.equal("error", answer.kind)
  return cjson.decode(answer:text())
end

describe("scripts/lambda", function()
  lambda.guard(before_each, after_each)

  it("say what they show, in 6 to 40 lines", function()
    for name in lfs.dir(DIR) do
      if name:find "%.lua$" then
        local first, count = nil, 0
        for line in io.lines(DIR .. name) do
          first, count = first or line, count + 1
          assert(#line <= 80, name .. ": a line of more than 80 columns")
        end
        assert.matches("^%-%- shows %w", first)
        assert(count >= 6 and count <= 40, name)
      end
    end
  end)

  it("primes: of the items of an event", function()
    local f = start "primes"
    assert.are.equal('{"primes":[2,3,97]}',
      (response(f, '{"numbers":[1,2,3,4,97,99]}')))
    assert.are.equal('{"primes":[]}', (response(f, '{"numbers":[4]}')))
    f:stop()
  end)

  it("stream: rows, in order", function()
    local f = start "stream"
    local text, answer = response(f, '{"to":7}')
    assert.are.equal("1,0\n2,1\n3,7\n4,2\n5,5\n6,8\n7,16\n", text)
    assert.are.equal("text/csv", (answer:header "Content-Type"))
    assert.are.equal("streaming",
      (answer:header "Lambda-Runtime-Function-Response-Mode"))
    f:stop()
  end)

  it("errors: collected, raised, and the caller's own", function()
    local f = start "errors"
    local body = cjson.decode((response(f,
      '{"names":["news","secret","crash","more"]}')))
    assert.are.same({ news = "contents of news", more = "contents of more" },
      body.found)
    assert.are.same({ secret = "task", crash = "lost" }, body.failed)
    body = failure(f, "{}")
    assert.are.same({ "BadRequest", "names are missing" },
      { body.errorType, body.errorMessage })
    for name, kind in pairs { secret = "task", crash = "lost" } do
      body = failure(f, ('{"strict":true,"names":["%s"]}'):format(name))
      assert.are.equal("luapool." .. kind, body.errorType)
    end
    assert.matches("no access to secret", f:stop().stderr)
  end)
end)
