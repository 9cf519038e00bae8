-- SPDX-License-Identifier: MIT
-- A Runtime API that misbehaves: connections that end anywhere, answers of any
-- status, addresses of any form, proxies in the environment. Events are asked
-- for again; what was handled is never posted twice.
local gate = require "spec.support.gate"
local lambda = require "spec.support.lambda.function"
local lfs = require "lfs"

local ECHO = [[
  return { handler = function(event)
    if event == "raise" then error "raised" end
    return event
  end }
]]

local function connections(f) return #f:all { what = "connection" } end

local function echoes(f, from, to)
  for i = from, to do
    assert.are.equal(tostring(i), f:invoke(tostring(i)):result())
  end
end

describe("next", function()
  lambda.guard(before_each, after_each)

  it("and all answers use one connection", function()
    local f = lambda.start { code = ECHO }
    echoes(f, 1, 20)
    f:invoke '"raise"'
    f:invoke "{"
    f:wait_idle()
    local used = {}
    for _, kind in ipairs { "next", "response", "error" } do
      for _, request in ipairs(f:requests(kind)) do
        used[request.connection] = true
        assert.are.equal("HTTP/1.1", request.version)
      end
    end
    local n = 0
    for _ in pairs(used) do n = n + 1 end
    assert.are.equal(1, n)
    assert.are.equal(2, connections(f))
    f:stop()
  end)

  it("waits as long as it takes #slow", function()
    local f = lambda.start { code = ECHO, limit = 200 }
    f:wait_idle()
    gate.sleep(75)
    echoes(f, 1, 1)
    assert.are.equal(2, connections(f))
    f:stop()
  end)

  it("waits for an answer that is slow", function()
    local f = lambda.start { code = ECHO, events = {
      { body = "1", id = "slow", delay = 1.5 } } }
    assert.are.equal("1", f:wait_answer "slow":result())
    assert.are.equal(1, #f:requests "response")
    f:stop()
  end)

  it("is asked again after 204", function()
    local f = lambda.start { code = ECHO, faults = {
      { at = "next", nth = 1, status = 204 },
      { at = "next", nth = 2, status = 204 },
      { at = "next", nth = 3, status = 204 },
      { at = "next", nth = 4, status = 204 },
      { at = "next", nth = 6, status = 204 } } }
    echoes(f, 1, 3)
    f:wait_idle()
    assert.are.equal(0, #f:requests "error")
    f:stop()
  end)

  for _, status in ipairs { 201, 301, 302, 400, 403, 404, 410, 413, 429, 500,
    503 } do
    it("with another status is the end: " .. status, function()
      local f = lambda.start { code = ECHO, faults = {
        { at = "next", nth = 2, status = status,
          headers = { { "Location", "/2018-06-01/runtime/invocation/next" } } },
      } }
      echoes(f, 1, 1)
      local result = f:wait()
      assert.are.equal(1, result.status)
      assert.is_truthy(result.stderr:find(tostring(status), 1, true),
        result.stderr)
      assert.are.equal(2, #f:requests "next")
      assert.are.equal(0, #f:requests "init_error")
    end)
  end

  for what, ending in pairs {
    ["a reset"] = { reset = true }, ["an end"] = { cut = 0 },
    ["half a head"] = { cut = "head" },
    ["half a head and a reset"] = { cut = "head", reset = true },
    ["nonsense"] = { raw = "nonsense nonsense\r\n\r\n", drop = true },
  } do
    it("is asked again after two failures, not after three: " .. what,
      function()
        local list = { { at = "next", from = 7 } }
        for _, nth in ipairs { 1, 2, 4, 5 } do
          list[#list + 1] = { at = "next", nth = nth }
        end
        for _, fault in ipairs(list) do
          for key, value in pairs(ending) do fault[key] = value end
        end
        local f = lambda.start { code = ECHO, faults = list }
        echoes(f, 1, 2)
        local result = f:wait()
        assert.are.equal(1, result.status)
        assert.are_not.equal("", result.stderr)
        -- The 7th may have found a connection that had been used before and
        -- was stale, which is no failure to connect.
        local n = #f:requests "next"
        assert.is_true(n == 9 or n == 10, n)
      end)
  end

  for what, event in pairs {
    ["cut in the head"] = { cut = "head" },
    ["cut in the body"] = { cut = "body" },
    ["reset in the body"] = { cut = "body", reset = true },
    ["reset before it"] = { reset = true },
    ["cut in chunks"] = { cut = "body", chunked = 4 },
  } do
    it("whose event is not whole is asked again: " .. what, function()
      local f = lambda.start { code = ECHO, redelivered = true,
        unanswered = true }
      f:wait_idle()
      event.body = '{"text":"' .. ("x"):rep(1000) .. '"}'
      local id = f:push(event)
      assert.are.equal(event.body, f:wait_answer(id):result())
      f:wait_idle()
      assert.are.equal(1, #f:all { what = "request", id = id })
      f:stop()
    end)
  end

  it("reconnects where the connection is closed", function()
    local f = lambda.start { code = ECHO }
    for i = 1, 5 do
      f:wait_idle()
      echoes(f, i, i)
      f:wait_idle()
      f:api { ["do"] = i % 2 == 0 and "close" or "reset" }
    end
    echoes(f, 6, 6)
    f:stop()
  end)

  it("reconnects where each answer closes the connection", function()
    for _, how in ipairs { "close", "drop" } do
      local f = lambda.start { code = ECHO, faults = {
        { at = "response", status = 202, [how] = true } } }
      for i = 1, 5 do
        -- Closed unannounced with the event, it may take the answer along.
        local event = { body = tostring(i), close = how == "close" or nil }
        assert.are.equal(tostring(i), f:invoke(event):result())
      end
      assert.are.equal(5, #f:requests "response")
      f:stop()
    end
  end)

  it("that closes has its event answered on another connection", function()
    local f = lambda.start { code = [[
      local gate = require "spec.support.gate"
      return { handler = function(event) gate.sleep(0.05) return event end }
    ]] }
    for i = 1, 5 do
      assert.are.equal(tostring(i),
        f:invoke { body = tostring(i), drop = true }:result())
    end
    f:stop()
  end)

  it("that was closed twice is asked a third time", function()
    local f = lambda.start { code = ECHO }
    for _, how in ipairs { "close", "reset" } do
      f:wait_idle()
      local held = #f:all { what = "held", kind = "next" }
      f:api { ["do"] = how }
      f:wait_for({ what = "held", kind = "next" }, held + 1)
    end
    echoes(f, 1, 1)
    f:stop()
  end)
end)

describe("an answer", function()
  lambda.guard(before_each, after_each)

  -- What may become of the post of a response or an error.
  local FAULTS = {
    ["403"] = { status = 403 }, ["410"] = { status = 410 },
    ["413"] = { status = 413 }, ["500"] = { status = 500 },
    ["400"] = { status = 400 }, ["an end"] = { cut = 0 },
    ["a reset"] = { reset = true }, ["half a head"] = { cut = "head" },
    ["half a body"] = { cut = "body" }, ["nonsense"] = { raw = "no\r\n\r\n",
      drop = true }, ["a late end"] = { cut = 0, delay = 0.2 },
    ["an early 413"] = { status = 413, early = true, close = true },
    ["an early end"] = { cut = 0, early = true },
  }

  for _, kind in ipairs { "response", "error" } do
    for what, ending in pairs(FAULTS) do
      it(("is posted once, logged and done with: %s, %s"):format(kind, what),
        function()
          local f = lambda.start { code = ECHO, unanswered = true }
          local body = kind == "error" and '"raise"' or "0"
          f:wait_idle()
          f:invoke(body) -- the connection has been used
          f:wait_idle()
          local said = #f:stderr()
          local fault = { at = kind, nth = 2 }
          for key, value in pairs(ending) do fault[key] = value end
          f:api { ["do"] = "fault", fault = fault }
          local id = f:push(body)
          f:wait_for { what = "head", id = id }
          f:wait_idle()
          assert.is_true(#f:stderr() > said, "nothing was logged")
          assert.are.equal(1, #f:all { what = "head", id = id })
          echoes(f, 5, 6)
          assert.are.equal(0, f:stop().status)
        end)
    end
  end

  it("is awaited", function()
    local f = lambda.start { code = ECHO, faults = {
      { at = "response", nth = 1, delay = 1 } } }
    local response = f:invoke "1"
    f:wait_idle()
    local asked = f:wait_request("next", 2)
    assert.is_true(asked.time - response.time >= 0.9)
    f:stop()
  end)

  it("may be accepted in any pieces", function()
    local f = lambda.start { code = ECHO, faults = {
      { at = "response", nth = 1, pieces = 1, status = 202 },
      { at = "response", nth = 2, chunked = 3, status = 202 },
      { at = "response", nth = 3, status = 200 } } }
    f:wait_idle()
    local said = f:stderr()
    echoes(f, 1, 4)
    assert.are.equal(said, f:stderr())
    assert.are.equal(2, connections(f))
    f:stop()
  end)

  it("that is large and refused early is done with", function()
    for what, fault in pairs {
      status = { status = 413, early = true, close = true },
      reset = { early = true, reset = true },
    } do
      fault.at, fault.nth = "response", 1
      local f = lambda.start { faults = { fault }, unanswered = true, code = [[
        return { handler = function(n) return ("x"):rep(n) end }
      ]] }
      f:wait_idle()
      f:push "6000000"
      f:wait_idle()
      assert.are.equal('"xx"', f:invoke("2"):result(), what)
      assert.are.equal(1, #f:all { what = "head", id = "event-1" })
      f:stop()
    end
  end)

  it("sets no cookie", function()
    local cookie = { { "Set-Cookie", "a=b; Path=/" } }
    local f = lambda.start { code = ECHO, faults = {
      { at = "response", status = 202, headers = cookie } } }
    f:invoke { body = "1", headers = cookie }
    echoes(f, 2, 3)
    for _, request in ipairs(f:all { what = "head" }) do
      assert.is_nil(request:header "Cookie")
    end
    f:stop()
  end)
end)

describe("the API's address", function()
  lambda.guard(before_each, after_each)

  local function of(pattern, opts)
    opts = opts or {}
    opts.code = ECHO
    opts.address = function(port) return (pattern:gsub("PORT", port)) end
    return opts
  end

  -- Every request must be for that path and host.
  local function works(opts, host)
    local f = lambda.start(opts)
    echoes(f, 1, 2)
    f:invoke '"raise"':failure "LuaError"
    f:wait_idle()
    assert.are.equal(0, #f:requests "other")
    assert.are.equal(1, #f:requests "extension_next")
    for _, request in ipairs(f:all { what = "request" }) do
      assert.are.equal(host:gsub("PORT", math.tointeger(f.port)),
        request:header "Host" or "", nil)
    end
    f:stop()
  end

  local FORMS = {
    { "127.0.0.1:PORT" }, { "http://127.0.0.1:PORT" },
    { "127.0.0.1:PORT/some/base", "/some/base" },
    { "http://127.0.0.1:PORT/some/base", "/some/base" },
    { "127.0.0.1:PORT/" }, { "127.0.0.1:PORT/base/", "/base" },
    { "HTTP://127.0.0.1:PORT" },
  }

  for _, form in ipairs(FORMS) do
    it("may be " .. form[1], function()
      works(of(form[1], { base = form[2] }), "127.0.0.1:PORT")
    end)
  end

  it("may be a name", function()
    works(of "localhost:PORT", "localhost:PORT")
  end)

  for _, form in ipairs { "[::1]:PORT", "http://[::1]:PORT/base" } do
    it("may be an IPv6 literal: " .. form, function()
      if not gate.read("/proc/net/if_inet6"):find "lo\n" then
        pending "no IPv6 here"
      end
      works(of(form, { host = "::1", base = form:match "PORT(.*)" }),
        "[::1]:PORT")
    end)
  end

  it("is reached past any proxy", function()
    local proxy = "http://127.0.0.1:9" -- nobody
    works(of("127.0.0.1:PORT", { env = {
      http_proxy = proxy, HTTP_PROXY = proxy, https_proxy = proxy,
      HTTPS_PROXY = proxy, all_proxy = proxy, ALL_PROXY = proxy, no_proxy = "",
      NO_PROXY = "",
    } }), "127.0.0.1:PORT")
  end)

  it("is reached without files of the user", function()
    local home = os.tmpname() .. ".d"
    assert(lfs.mkdir(home))
    for _, name in ipairs { ".netrc", ".curlrc" } do
      local file = assert(io.open(home .. "/" .. name, "w"))
      file:write(name == ".netrc" and "default login a password b\n"
        or "proxy = 127.0.0.1:9\n")
      file:close()
    end
    local f = lambda.start { code = ECHO, env = { HOME = home } }
    echoes(f, 1, 2)
    for _, request in ipairs(f:all { what = "head" }) do
      assert.is_nil(request:header "Authorization")
    end
    f:stop()
    os.execute(("rm -r %s %s"):format(home, home:sub(1, -3)))
  end)
end)

describe("many events", function()
  lambda.guard(before_each, after_each)

  it("leave no descriptor open and little memory used", function()
    if lambda.sanitized then pending "the sanitizer keeps what is freed" end
    local f = lambda.start { code = ECHO, limit = 60 }
    local function size()
      local n = 0
      for _ in lfs.dir(("/proc/%d/fd"):format(f:pid())) do n = n + 1 end
      local status = gate.read(("/proc/%d/status"):format(f:pid()))
      return n, tonumber(status:match "VmRSS:%s*(%d+)")
    end
    local function round(n)
      local last
      for i = 1, n do
        last = f:push(i % 7 == 0 and '"raise"' or '{"i":' .. i .. "}")
      end
      f:wait_answer(last)
    end
    round(200)
    local fds, memory = size()
    round(600)
    local fds_now, memory_now = size()
    assert.are.equal(fds, fds_now)
    assert.is_true(memory_now - memory < 4000, memory_now - memory)
    f:stop()
  end)
end)
