-- SPDX-License-Identifier: MIT
-- The Runtime API stand-in itself, asked by a bootstrap of a few lines that is
-- not ours: what the other specs build on.
local lambda = require "spec.support.lambda.function"
local lfs = require "lfs"

local program = lfs.currentdir() .. "/spec/support/lambda/bootstrap.py"

local function start(opts)
  opts.program = program
  return lambda.start(opts)
end

describe("the stand-in", function()
  lambda.guard(before_each, after_each)

  it("gives out events and records the answers, byte for byte", function()
    local f = start { events = { { id = "a b/c", body = '{"a":1}' } } }
    local answer = f:wait_answer "a b/c"
    assert.are.equal("response", answer.kind)
    assert.are.equal("POST", answer.method)
    assert.are.equal("/2018-06-01/runtime/invocation/a%20b%2Fc/response",
      answer.path)
    assert.are.equal('{"a":1}', answer:text())
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local all = table.concat(bytes):rep(1000)
    assert.are.equal(all, f:invoke(all):text())
    assert.are.equal(1, #f:all { what = "connection", connection = 1 })
    local result = f:stop()
    assert.are.equal(0, result.status)
    assert.is_true(result.term < 1)
  end)

  it("waits for extensions", function()
    local f = start { events = { {} } }
    f:wait_request "response"
    local held = f:wait_for { what = "held", kind = "extension_next" }
    assert.is_true(held.time < f:wait_for { what = "served" }.time)
    f:stop()
  end)

  it("answers in pieces, below a base path, after 204", function()
    local f = start {
      base = "/some/base", faults = { { at = "next", nth = 1, status = 204 } },
      events = { { body = '"pieces"', pieces = 1 }, { body = '"chunks"',
        chunked = 3, names = "odd" } },
    }
    assert.are.equal('"pieces"', f:wait_request("response", 1):text())
    assert.are.equal('"chunks"', f:wait_request("response", 2):text())
    f:stop()
  end)

  it("ends connections as it is told", function()
    for _, fault in ipairs { { reset = true }, { cut = "head" },
      { cut = "body", reset = true }, { cut = 0 } } do
      fault.at, fault.nth = "next", 1
      local f = start { faults = { fault }, events = { {} } }
      assert.are_not.equal(0, f:wait().status)
      assert.are.equal(0, #f:requests "response")
    end
  end)

  it("refuses too large a response, and other ends of connections", function()
    local f = start { unanswered = true, events = {
      { id = "large", body = ("x"):rep(6291557) },
      { id = "fits", body = ("x"):rep(6291556) },
    } }
    assert.are.equal(6291556, #f:wait_answer("fits", 15):text())
    f:wait_idle()
    f:api { ["do"] = "close" }
    assert.are_not.equal(0, f:wait().status)
  end)
end)
