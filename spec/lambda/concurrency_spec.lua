-- SPDX-License-Identifier: MIT
-- Several pollers in one environment (AWS_LAMBDA_MAX_CONCURRENCY): each a
-- process of its own that loads the module, together one function.
local cjson = require "cjson"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local leaks = require "spec.support.leaks"

-- Tells who handles an event, and keeps a pool.
local CODE = [[
  local luapool = require "luapool"
  local gate = require "spec.support.gate"
  local leaks = require "spec.support.leaks"
  if os.getenv "LOADED" then gate.mark(os.getenv "LOADED", leaks.pid() .. " ")
  end
  local pool, count
  return { handler = function(event, context)
    count = (count or 0) + 1
    if event.pool then
      pool = pool or luapool.Pool(2)
      pool:map(math.abs, {1, 2, 3})
    end
    if event.meet then gate.meet(event.meet, event.n) end
    if event.fail then error "raised" end
    if event.loop then gate.mark(event.loop) while true do end end
    if event.sleep then pool:map(gate.sleep, {60, 60}) end
    return {pid = leaks.pid(), id = context.aws_request_id, count = count,
      trace = os.getenv "_X_AMZN_TRACE_ID",
      workers = pool and #pool}
  end }
]]

local function start(n, opts)
  opts = opts or {}
  opts.code = opts.code or CODE
  opts.env = opts.env or {}
  opts.env.AWS_LAMBDA_MAX_CONCURRENCY = tostring(n)
  opts.concurrent = true
  return lambda.start(opts)
end

-- Pushes n events that are handled only together.
local function together(f, n, fields)
  local path, ids = gate.name(), {}
  for i = 1, n do
    local event = { meet = path, n = n }
    for key, value in pairs(fields or {}) do event[key] = value end
    ids[i] = f:push { body = cjson.encode(event),
      headers = { { "Lambda-Runtime-Trace-Id", "trace-" .. i } } }
  end
  local answers = {}
  for i, id in ipairs(ids) do answers[i] = f:wait_answer(id) end
  return answers
end

-- Kills idle pollers, and waits until others have taken their places.
local function lose(f, pids, n)
  local closed = #f:all { what = "closed" }
  faults.kill(pids, "KILL")
  f:wait_for({ what = "closed" }, closed + #pids)
  f:wait_idle(n)
end

-- The process ids in the answers, each once.
local function different(answers)
  local pids, n = {}, 0
  for _, answer in ipairs(answers) do
    local pid = math.tointeger(answer:json().pid)
    if not pids[pid] then n = n + 1 end
    pids[pid] = true
  end
  return n, pids
end

describe("three pollers", function()
  lambda.guard(before_each, after_each)

  it("handle three events at once, each with its own state", function()
    local path = gate.name()
    local f = start(3, { env = { LOADED = path } })
    f:wait_idle(3)
    local loaded = {}
    for pid in gate.read(path):gmatch "%d+" do
      loaded[math.tointeger(pid)] = true
    end
    assert.are.equal(3, leaks.size(loaded))
    for round = 1, 3 do
      local answers = together(f, 3)
      local n, pids = different(answers)
      assert.are.equal(3, n)
      assert.are.same(loaded, pids)
      for i, answer in ipairs(answers) do
        local seen = answer:json()
        assert.are.equal(answer.id, seen.id)
        assert.are.equal("trace-" .. i, seen.trace)
        assert.are.equal(round, seen.count)
      end
    end
    assert.are.equal(3, #gate.read(path):gsub("%d+ ", "x"))
    assert.are.equal(0, f:stop().status)
  end)

  it("register one extension, before any next", function()
    local f = start(3)
    f:wait_idle(3)
    assert.are.equal(1, #f:requests "register")
    local first = f:wait_for { what = "head", kind = "next" }
    assert.is_true(f:wait_request("register").time < first.time)
    f:wait_request "extension_next"
    assert.are.equal(1, #f:requests "extension_next")
    f:stop()
  end)

  it("have connections of their own", function()
    local f = start(3)
    together(f, 3)
    together(f, 3)
    local of = {}
    for _, request in ipairs(f:requests "response") do
      local pid = request:json().pid
      of[request.connection] = of[request.connection] or pid
      assert.are.equal(of[request.connection], pid)
    end
    assert.are.equal(3, leaks.size(of))
    f:stop()
  end)

  it("have pools of their own, warm", function()
    local f = start(3)
    for _ = 1, 2 do
      for _, answer in ipairs(together(f, 3, { pool = true })) do
        assert.are.equal(2, answer:json().workers)
      end
    end
    assert.are.equal(9, #f:workers())
    for _, pid in ipairs(f:workers()) do
      for child in pairs(leaks.children(pid)) do
        local fds = io.popen("ls -l /proc/" .. child .. "/fd"):read "a"
        assert.is_nil(fds:find("socket:", 1, true))
      end
    end
    f:stop()
  end)

  it("post their errors", function()
    local f = start(3)
    for _, answer in ipairs(together(f, 3, { fail = true })) do
      answer:failure "LuaError"
    end
    assert.are.equal(3, (different(together(f, 3))))
    f:stop()
  end)

  it("post one init error, and end", function()
    for code, kind in pairs {
      ["return {"] = "Runtime.UserCodeSyntaxError",
      ["require 'absent'"] = "Runtime.ImportModuleError",
      ["error 'x'"] = "Runtime.InitError",
      ["return {}"] = "Runtime.HandlerNotFound",
    } do
      local f = start(3, { code = code })
      local result = f:wait()
      assert.is_true(result.status > 0 and result.status < 124)
      local posted = f:requests "init_error"
      assert.are.equal(1, #posted)
      posted[1]:failure(kind)
      assert.are.equal(0, #f:all { what = "head", kind = "next" })
    end
  end)
end)

describe("a poller that is lost", function()
  lambda.guard(before_each, after_each)

  it("is replaced", function()
    local path = gate.name()
    local f = start(3, { env = { LOADED = path } })
    local _, before = different(together(f, 3))
    f:wait_idle(3)
    local pids = {}
    for pid in pairs(before) do
      if pid ~= f:pid() then pids[#pids + 1] = pid end
    end
    lose(f, pids, 3)
    local n, now = different(together(f, 3))
    assert.are.equal(3, n)
    for pid in pairs(before) do
      if pid ~= f:pid() then assert.is_nil(now[pid]) end
    end
    assert.are.equal(0, f:stop().status)
  end)

  it("in the middle of an event is replaced, with its pool's workers",
    function()
      local path = gate.name()
      local f = start(2, { unanswered = 1 })
      f:push(cjson.encode { loop = path, pool = true })
      gate.wait(path)
      local answer = f:invoke(cjson.encode { pool = true })
      local alive = math.tointeger(answer:json().pid)
      for pid in pairs(leaks.children(f:pid())) do
        if pid ~= alive then faults.kill(pid, "KILL") end
      end
      assert.are.equal(2, (different(together(f, 2))))
      gate.eventually(function() return #f:workers() == 4 end, 5,
        "the end of the lost poller's workers")
      assert.are.equal(0, f:stop().status)
    end)

  it("is replaced again and again", function()
    local f = start(2)
    for _ = 1, 6 do
      local _, pids = different(together(f, 2))
      f:wait_idle(2)
      pids[f:pid()] = nil
      lose(f, { (next(pids)) }, 2)
    end
    assert.are.equal(2, (different(together(f, 2))))
    f:stop()
  end)

  -- Sets how many descriptors the first process may have.
  local function limit(f, n)
    assert(os.execute(("prlimit --nofile=%s --pid %d"):format(n, f:pid())))
  end

  it("is replaced as soon as that can be done", function()
    local f = start(2)
    local _, pids = different(together(f, 2))
    f:wait_idle(2)
    limit(f, "5:1024")
    faults.kill({ (next(pids)) }, "KILL")
    gate.eventually(function()
      return f:stderr():find "could not start a poller: [^\n]+\n"
    end)
    limit(f, "1024:1024")
    f:wait_idle(2)
    assert.are.equal(2, (different(together(f, 2))))
    f:stop()
  end)

  it("and cannot be replaced at all is the end, with a message", function()
    if lambda.sanitized then pending "the sanitizer needs descriptors" end
    local f = start(2)
    local _, pids = different(together(f, 2))
    f:wait_idle(2)
    limit(f, "5:5")
    faults.kill({ (next(pids)) }, "KILL")
    assert.are.equal(1, f:wait().status)
    assert.is_truthy(f.result.stderr:find("could not start a poller", 1, true))
  end)

  it("before it was ready is no reason to go on for ever", function()
    local f = start(2, { code = "require 'luapool.host'.exit(7)" })
    local result = f:wait()
    assert.are.equal(1, result.status)
    assert.is_truthy(result.stderr:find("exited with status 7", 1, true))
    assert.are.equal(0, #f:all { what = "head", kind = "next" })
  end)
end)

describe("the end of pollers", function()
  lambda.guard(before_each, after_each)

  it("comes by SIGTERM to the first process", function()
    local f = start(3)
    f:wait_idle(3)
    local result = f:stop()
    assert.are.equal(0, result.status)
    assert.is_true(result.term < 1, result.term)
  end)

  it("comes by SIGTERM, though they are busy", function()
    local path = gate.name()
    local f = start(3, { unanswered = 3 })
    for _ = 1, 2 do f:push(cjson.encode { loop = path, pool = true }) end
    f:push(cjson.encode { pool = true, sleep = true })
    gate.wait(path, 2)
    gate.eventually(function() return #f:workers() == 9 end, 10, "9 workers")
    local result = f:stop()
    assert.are.equal(0, result.status)
    assert.is_true(result.term < 1, result.term)
  end)

  it("comes with the first process", function()
    local path = gate.name()
    local f = start(3, { unanswered = 1 })
    f:push(cjson.encode { loop = path, pool = true })
    gate.wait(path)
    f:kill "KILL"
    assert.are.equal(137, f:wait().status)
  end)

  it("comes to those that do not listen as well", function()
    for _, name in ipairs { "TERM", "KILL" } do
      local path = gate.name()
      local f = start(2, { unanswered = 2, code = [[
        local gate = require "spec.support.gate"
        return { handler = function(event)
          require "harm".ignore(15)
          gate.mark(event)
          while true do end
        end }
      ]] })
      for _ = 1, 2 do f:push(cjson.encode(path)) end
      gate.wait(path, 2)
      f:kill(name)
      local result = f:wait()
      assert.are.equal(name == "TERM" and 0 or 137, result.status)
    end
  end)

  it("comes with the API's", function()
    local f = start(2)
    f:wait_idle(2)
    f:api { ["do"] = "deaf" }
    f:api { ["do"] = "reset" }
    assert.are.equal(1, f:wait().status)
  end)
end)

describe("a concurrency that is none", function()
  lambda.guard(before_each, after_each)

  for _, value in ipairs { "", "0", "-2", "many", "1" } do
    it(("means one event at a time: %q"):format(value), function()
      local f = start(value)
      f:wait_idle()
      for i = 1, 3 do
        local seen = f:invoke(cjson.encode { n = i }):json()
        assert.are.equal(i, seen.count)
      end
      f:wait_idle()
      assert.are.equal(4, #f:all { what = "head", kind = "next" })
      f:stop()
    end)
  end
end)
