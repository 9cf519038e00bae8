-- SPDX-License-Identifier: MIT
-- Pools in the handlers of a Lambda function: warm between invocations, with
-- nothing running on after an answer; and what their workers have and have not.
local cases = require "spec.support.lambda.cases"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local luapool = require "luapool"

local event = cases.event

-- What each descriptor of a process is.
local function descriptors(pid)
  local dir, list = ("/proc/%d/fd"):format(pid), {}
  for name in lfs.dir(dir) do
    list[#list + 1] = lfs.symlinkattributes(dir .. "/" .. name, "target")
  end
  return table.concat(list, " ")
end

describe("a pool of a module", function()
  lambda.guard(before_each, after_each)

  it("is warm, as globals are", function()
    local f = lambda.start { code = cases.code [[
      count = 0
      function cases.count()
        count = count + 1
        return {count = count, pids = pids(),
          calls = pool:map(function() calls = (calls or 0) + 1 return calls end,
            {1, 2}, 1)}
      end
    ]] }
    local first = f:invoke(event "count"):json()
    local most = 0
    for i = 2, 6 do
      local seen = f:invoke(event "count"):json()
      assert.are.equal(i, seen.count)
      assert.are.same(first.pids, seen.pids)
      for _, calls in ipairs(seen.calls) do most = math.max(most, calls) end
    end
    assert.is_true(most >= 6, most)
    assert.are.equal(2, #f:workers())
    f:stop()
  end)

  it("has workers without a socket", function()
    local f = lambda.start { code = cases.code [[
      function cases.born()
        late = late or luapool.Pool(2)
        late:map(math.abs, {1, 2, 3, 4}, 1)
        return pids(late)
      end
      function cases.replaced()
        pcall(pool.map, pool, os.exit, {1, 1}, 1)
        pool:map(math.abs, {1, 2, 3, 4}, 1)
        return pids()
      end
    ]] }
    for _, case in ipairs { "pids", "born", "replaced", "born" } do
      local pids = f:invoke(event(case)):json()
      assert.are.equal(2, #pids)
      for _, pid in ipairs(pids) do
        assert.is_nil(descriptors(pid):find "socket:", case)
      end
    end
    assert.is_truthy(descriptors(f:pid()):find "socket:")
    f:stop()
  end)

  it("starts programs without a socket, as the handler does", function()
    local f = lambda.start { code = cases.code [[
      local function list()
        local pipe <close> = io.popen "ls -l /proc/self/fd"
        return pipe:read "a"
      end
      function cases.list() return list() .. pool:apply(list) end
    ]] }
    f:invoke(event "list")
    assert.is_nil(f:invoke(event "list"):result():find("socket", 1, true))
    f:stop()
  end)

  it("knows the trace id, in every worker", function()
    local f = lambda.start { code = cases.code [[
      local function look(path, n)
        gate.meet(path, n)
        local pipe <close> = io.popen "printf %s \"$_X_AMZN_TRACE_ID\""
        return {luapool.worker(), os.getenv "_X_AMZN_TRACE_ID" or "absent",
          pipe:read "a"}
      end
      function cases.look(event)
        local of = event.new and luapool.Pool(2) or pool
        if event.lose then pcall(pool.map, pool, os.exit, {1, 1}, 1) end
        return of:starmap(look, {{event.path, 2}, {event.path, 2}}, 1)
      end
    ]] }
    local n = 0
    for _, id in ipairs { "Root=1", "Root=2;Sampled=1", false, "Root=4" } do
      for _, how in ipairs { "warm", "new", "lose" } do
        local path = gate.name()
        n = n + 1
        local seen = f:invoke {
          body = event("look", { path = path, [how] = true }),
          headers = { { "Lambda-Runtime-Trace-Id", id } },
        }:json()
        for i = 1, 2 do
          assert.are.same({ id or "absent", id or "" },
            { seen[i][2], seen[i][3] }, how)
        end
        assert.are.equal(3, seen[1][1] + seen[2][1])
      end
    end
    f:stop()
  end)

  it("survives the loss of its workers", function()
    local f = lambda.start { code = cases.code "" }
    for _ = 1, 3 do
      faults.kill(f:invoke(event "pids"):json(), "KILL")
      cases.sound(f)
    end
    f:stop()
  end)
end)

describe("cpu_count", function()
  lambda.guard(before_each, after_each)

  it("is by the memory size", function()
    local here = luapool.cpu_count()
    for memory, cpus in pairs { ["128"] = 1, ["1769"] = 1, ["1770"] = 2,
      ["3538"] = 2, ["3539"] = 3, ["10240"] = 6 } do
      local f = lambda.start {
        env = { AWS_LAMBDA_FUNCTION_MEMORY_SIZE = memory },
        code = [[
          local luapool = require "luapool"
          return { handler = function(_, context)
            luapool.map(math.abs, {1})
            return {luapool.cpu_count(), #luapool.Pool(),
              context.memory_limit_in_mb}
          end }
        ]],
      }
      local expected = math.min(cpus, here)
      assert.are.same({ expected, expected, tonumber(memory) },
        f:invoke("{}"):json())
      f:stop()
    end
  end)

  it("takes no notice of a size that is none", function()
    for _, memory in ipairs { "0", "-1", "much", "", "1e400", "1769.5" } do
      local f = lambda.start {
        env = { AWS_LAMBDA_FUNCTION_MEMORY_SIZE = memory },
        code = [[
          local luapool = require "luapool"
          return { handler = function() return luapool.cpu_count() end }
        ]],
      }
      local n = tonumber(f:invoke("{}"):result())
      assert.is_true(n >= 1 and n <= luapool.cpu_count())
      f:stop()
    end
  end)
end)

describe("a task that is pending when the handler ends", function()
  lambda.guard(before_each, after_each)

  local HOLD = { { at = "response", delay = 0.3 }, { at = "error", delay = 0.3 }
  }

  local CASES = cases.code [[
    -- Each starts a task that marks the path, and waits until it has.
    local function begun(path, ...) gate.wait(path, 1) return ... end
    function cases.apply(event)
      future = pool:apply_async(beat, {event.path})
      pool:poll(0)
      return begun(event.path, pids())
    end
    function cases.fails(event)
      pool:apply_async(beat, {event.path})
      pool:poll(0)
      begun(event.path)
      error "the handler"
    end
    function cases.map(event)
      pool:map_async(beat, {event.path, event.path, event.path}, 1)
      pool:poll(0)
      return begun(event.path, pids())
    end
    local function beat_if(path) return path == "" or beat(path) end
    function cases.imap(event)
      iterator = pool:imap(beat_if, {"", event.path}, 1)
      iterator()
      return begun(event.path, pids())
    end
    function cases.own(event)
      own = own or luapool.Pool(2)
      own:apply_async(beat, {event.path})
      own:poll(0)
      return begun(event.path, pids(own))
    end
    function cases.default(event)
      iterator = luapool.imap(beat_if, {"", event.path}, 1)
      iterator()
      return begun(event.path)
    end
    function cases.deaf(event)
      pool:apply_async(function(path)
        os.execute("trap '' TERM; while :; do printf + >>" .. path
          .. "; sleep 0.01; done")
      end, {event.path})
      pool:poll(0)
      return begun(event.path, pids())
    end
  ]]

  -- The answer to an event whose task is to be cancelled.
  local function cancelled(f, case)
    local path = gate.name()
    local id = f:push(event(case, { path = path }))
    f:wait_for { what = "head", id = id }
    local said, beats = f:stderr(), gate.count(path)
    assert.is_true(beats > 0)
    gate.sleep(0.1)
    assert.are.equal(beats, gate.count(path), case .. " runs on")
    local answer = f:wait_answer(id)
    return answer, said
  end

  for _, case in ipairs { "apply", "map", "imap", "own", "default", "deaf" } do
    it("is cancelled and logged before the answer: " .. case, function()
      local f = lambda.start { code = CASES, faults = HOLD }
      f:wait_idle()
      local before = f:stderr()
      local answer, said = cancelled(f, case)
      answer:result()
      assert.is_true(#said > #before, "nothing was logged")
      cases.sound(f)
      f:stop()
    end)
  end

  it("is cancelled where the handler fails", function()
    local f = lambda.start { code = CASES, faults = HOLD }
    local answer, said = cancelled(f, "fails")
    assert.matches("the handler$", answer:failure "LuaError".errorMessage)
    assert.are_not.equal("", said)
    cases.sound(f)
    f:stop()
  end)

  it("is named in the log", function()
    local f = lambda.start { code = CASES, faults = HOLD }
    local _, said = cancelled(f, "apply")
    assert.matches("main%.lua:%d+", said)
    f:stop()
  end)

  it("has its worker replaced, and the pool its size", function()
    local f = lambda.start { code = CASES }
    for _ = 1, 5 do
      local pids = cancelled(f, "apply"):json()
      local now = f:invoke(event "pids"):json()
      assert.are.equal(2, #now)
      local kept = {}
      for _, pid in ipairs(now) do kept[pid] = true end
      local gone = 0
      for _, pid in ipairs(pids) do
        if not kept[pid] then
          gone = gone + 1
          assert.is_false(leaks.alive(math.tointeger(pid)))
        end
      end
      assert.are.equal(1, gone)
      cases.sound(f)
    end
    f:stop()
  end)

  it("is over for its future", function()
    local f = lambda.start { code = cases.code [[
      function cases.start(event)
        future = pool:apply_async(beat, {event.path})
        pool:poll(0)
        gate.wait(event.path)
      end
      function cases.look()
        local ok, e = pcall(future.get, future, 5)
        return {ok, future:done(), e.kind}
      end
    ]] }
    local path = gate.name()
    f:invoke(event("start", { path = path }))
    local seen = f:invoke(event "look"):json()
    assert.is_false(seen[1])
    assert.is_true(seen[2])
    assert.are_not.equal("timeout", seen[3])
    f:stop()
  end)

  it("is none where the handler waits for it", function()
    local f = lambda.start { code = cases.code [[
      function cases.whole()
        local own <close> = luapool.Pool(2)
        for _ = 1, 10 do own:apply_async(sleep, {0.001}) end
        pool:map(sleep, {0.01, 0.01})
        for _ in pool:imap(sleep, {0.01, 0.01}) do end
      end
    ]] }
    f:wait_idle()
    local before = f:stderr()
    f:invoke(event "whole")
    assert.are.equal(before, f:stderr())
    f:stop()
  end)
end)
