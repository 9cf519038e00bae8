-- SPDX-License-Identifier: MIT
-- A freeze, as Lambda does it to a function at any moment: every process of it
-- stopped, and continued later. It is no time at all.
local cases = require "spec.support.lambda.cases"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

local event = cases.event

describe("a freeze", function()
  lambda.guard(before_each, after_each)

  local CODE = cases.code [[
    function cases.map(event)
      gate.mark(event.path)
      local results, errs = pool:map(sleep, event.items,
        {timeout = 2, on_error = "collect", chunksize = 1})
      local failed = 0
      for _ in pairs(errs) do failed = failed + 1 end
      return {#results, failed}
    end
  ]]

  it("while a pool maps lets no task time out", function()
    local f = lambda.start { code = CODE, limit = 60 }
    f:wait_idle()
    local path, items = gate.name(), {}
    for i = 1, 24 do items[i] = 0.2 end
    local id = f:push { body = event("map", { path = path, items = items }),
      deadline = 60 }
    gate.wait(path)
    gate.sleep(0.5)
    f:freeze(5)
    assert.are.same({ 24, 0 }, f:wait_answer(id, 20):json())
    assert.are.equal(0, f:stop().status)
  end)

  it("between events costs nothing", function()
    local f = lambda.start { code = CODE, limit = 60 }
    f:wait_idle()
    local pids = f:invoke(event "pids"):text()
    f:wait_idle()
    f:freeze(5)
    assert.are.equal(pids, f:invoke(event "pids"):result())
    cases.sound(f)
    assert.are.equal(pids, f:invoke(event "pids"):result())
    -- The request that was open is the one that was answered.
    assert.are.equal(2, #f:all { what = "connection" })
    local result = f:stop()
    assert.are.equal(0, result.status)
    assert.is_true(result.term < 1, result.term)
  end)

  it("in which the event arrives does not shorten its time", function()
    local f = lambda.start { code = CODE, limit = 60 }
    f:wait_idle()
    local pids = f:processes()
    faults.kill(pids, "STOP")
    local path = gate.name()
    local id = f:push { body = event("map", { path = path,
      items = { 0.5, 0.5, 0.5, 0.5 } }), deadline = 20 }
    gate.sleep(3)
    faults.kill(pids, "CONT")
    assert.are.same({ 4, 0 }, f:wait_answer(id):json())
    f:stop()
  end)
end)
