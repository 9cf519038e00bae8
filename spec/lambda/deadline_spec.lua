-- SPDX-License-Identifier: MIT
-- The deadline of an event: a handler that waits on a pool is told of it while
-- it can still answer.
local cases = require "spec.support.lambda.cases"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"

local event = cases.event

describe("a deadline", function()
  lambda.guard(before_each, after_each)

  local WAITS = cases.code [[
    function cases.apply() pool:apply(sleep, {20}) end
    function cases.map() pool:map(sleep, {20, 20, 20, 0}, 1) end
    function cases.get() pool:apply_async(sleep, {20}):get() end
    function cases.get_long() pool:apply_async(sleep, {20}):get(15) end
    function cases.wait() pool:apply_async(sleep, {20}):wait() error "w" end
    function cases.join()
      local own = luapool.Pool(1)
      own:apply_async(sleep, {20})
      own:close()
      own:join()
    end
    function cases.imap() for _ in pool:imap(sleep, {20, 20}) do end end
    function cases.unordered()
      for _ in pool:imap_unordered(sleep, {20, 20}) do end
    end
    function cases.completed()
      for _ in luapool.as_completed {pool:apply_async(sleep, {20})} do end
    end
    function cases.default() luapool.map(sleep, {20, 20}) end
    function cases.limited() pool:apply(sleep, {20}, {timeout = 10}) end
    function cases.caught()
      local ok, e = pcall(pool.apply, pool, sleep, {20})
      return {ok, e.kind, tostring(e)}
    end
    function cases.quick(event)
      return pool:map(sleep, {event.seconds, event.seconds}, 1)
    end
    function cases.busy()
      local limit = gate.now() + 1.2
      while gate.now() < limit do end
      return "done"
    end
  ]]

  -- Seconds from the delivery of an event to its answer.
  local function taken(f, answer)
    return answer.time - f:wait_for({ what = "served", id = answer.id }).time
  end

  -- Each in a function of its own, all at once: they mostly wait.
  it("ends any wait with an error, in time", function()
    local functions = {}
    for _, case in ipairs { "apply", "map", "get", "get_long", "join", "imap",
      "unordered", "completed", "default", "limited" } do
      functions[case] = lambda.start { code = WAITS }
    end
    for _, f in pairs(functions) do f:wait_idle() end
    for case, f in pairs(functions) do
      f:push { body = event(case), deadline = 1.2 }
    end
    for case, f in pairs(functions) do
      local answer = f:wait_answer "event-1"
      local body = answer:failure "luapool.timeout"
      assert(body.errorMessage:find "main%.lua:%d+",
        case .. ": " .. body.errorMessage)
      local seconds = taken(f, answer)
      assert(seconds > 0.9 and seconds < 1.2, case .. ": " .. seconds)
      cases.sound(f)
      f:stop()
    end
  end)

  it("ends a wait that gives no value too", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    local answer = f:invoke { body = event "wait", deadline = 1.2 }
    answer:failure()
    assert.is_true(taken(f, answer) < 1.2)
    f:stop()
  end)

  it("leaves 100 ms at least", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    local answer = f:invoke { body = event "apply", deadline = 0.5 }
    answer:failure "luapool.timeout"
    local seconds = taken(f, answer)
    assert.is_true(seconds > 0.35 and seconds < 0.5, seconds)
    f:stop()
  end)

  it("leaves a tenth of the time to tell", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    local answer = f:invoke { body = event "apply", deadline = 3 }
    answer:failure "luapool.timeout"
    local seconds = taken(f, answer)
    assert.is_true(seconds > 2.5 and seconds < 3, seconds)
    f:stop()
  end)

  it("leaves a second at most #slow", function()
    local f = lambda.start { code = WAITS, limit = 60 }
    f:wait_idle()
    local answer = f:invoke({ body = event "apply", deadline = 14 }, 20)
    answer:failure "luapool.timeout"
    local seconds = taken(f, answer)
    assert.is_true(seconds > 12.7 and seconds < 14, seconds)
    f:stop()
  end)

  it("may be caught, and the handler tells of it", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    local answer = f:invoke { body = event "caught", deadline = 1.2 }
    local seen = answer:json()
    assert.is_false(seen[1])
    assert.are.equal("timeout", seen[2])
    assert.matches("main%.lua:%d+", seen[3])
    assert.is_true(taken(f, answer) < 1.2)
    cases.sound(f)
    f:stop()
  end)

  it("has no task run on", function()
    local f = lambda.start { code = cases.code [[
      function cases.beat(event) pool:apply(beat, {event.path}) end
    ]], faults = { { at = "error", delay = 0.3 } } }
    f:wait_idle()
    local path = gate.name()
    local id = f:push { body = event("beat", { path = path }), deadline = 1.2 }
    f:wait_for { what = "head", id = id }
    local beats = gate.count(path)
    gate.sleep(0.1)
    assert.are.equal(beats, gate.count(path))
    f:wait_answer(id):failure "luapool.timeout"
    cases.sound(f)
    f:stop()
  end)

  it("is not the next event's", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    for _, deadline in ipairs { 0.6, 30, 0.6, 30 } do
      local seconds = deadline > 1 and 0.8 or 0.01
      f:invoke { body = event("quick", { seconds = seconds }),
        deadline = deadline }:result()
    end
    f:stop()
  end)

  it("that is missing, empty or past is none", function()
    local f = lambda.start { code = WAITS }
    f:wait_idle()
    local name = "Lambda-Runtime-Deadline-Ms"
    for _, opts in ipairs { { headers = { { name, false } } },
      { headers = { { name, "" } } }, { deadline = -10 }, { deadline = 0 } } do
      opts.body = event("quick", { seconds = 0.4 })
      assert.are.same({ 0.4, 0.4 }, f:invoke(opts):json())
    end
    f:stop()
  end)

  it("does not end what waits for no pool", function()
    local f = lambda.start { code = WAITS }
    assert.are.equal('"done"',
      f:invoke { body = event "busy", deadline = 1 }:result())
    f:stop()
  end)
end)
