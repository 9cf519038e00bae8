-- SPDX-License-Identifier: MIT
-- HTTP against a real server that misbehaves (support/http_server.py).
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"
local server = require "spec.support.http_server"

if not script.interpreter():find("luapool$") then
  describe("luapool.http in stock Lua", function()
    it("says that it needs the host", function()
      assert.has_error(function() require "luapool.http" end,
        "luapool.http is part of the luapool host: run this script with " ..
        "luapool")
    end)
  end)
  return
end

local host = require "luapool.host"
local http = require "luapool.http"
local luapool = require "luapool"

local url = server.url
local MIB = 1 << 20

-- Starts a request; the path is the server's.
local function start(client, path, request)
  request = request or {}
  request.url = url(path)
  return client:start(request)
end

-- ... and waits for its result.
local function ask(client, path, request)
  local transfer = start(client, path, request)
  assert.is_true(client:wait(transfer, 30))
  return transfer:result()
end

local function body(client, path, request)
  return assert(ask(client, path, request)).body
end

-- What the server was asked for since the last time, in words of the log's
-- first four columns; "1 GET /size/0 0" is the first connection.
local function log()
  local client <close> = http.client()
  local lines, first = {}, nil
  for line in body(client, "/log"):gmatch "[^\n]+" do
    local number, rest = line:match "^(%d+) (%S+ %S+ %d+)"
    first = first or number - 1
    lines[#lines + 1] = math.tointeger(number - first) .. " " .. rest
  end
  return lines
end

-- The header lines of the one request since the last log.
local function sent_headers()
  local client <close> = http.client()
  local line = body(client, "/log")
  assert(not line:find("\n"), line)
  local headers = {}
  for header in line:match("^%d+ %S+ %S+ %d+ (.*)"):gmatch "[^|]+" do
    headers[#headers + 1] = header
  end
  table.sort(headers)
  return headers
end

-- Bytes that look like nothing else, repeated.
local function bytes(n)
  local part = {}
  for i = 1, 4096 do part[i] = string.char((i * 7919) >> 3 & 255) end
  return table.concat(part):rep(n // 4096)
end

describe("luapool.http", function()
  setup(server.start)
  teardown(server.stop)
  leaks.guard(before_each, after_each)

  describe("an answer", function()
    it("has a status, headers and a body", function()
      local client <close> = http.client()
      local answer = assert(ask(client, "/echo", { body = "hello" }))
      assert.equal(200, answer.status)
      assert.equal("hello", answer.body)
      assert.equal("5", answer.headers["content-length"])
    end)

    it("is the same however often it is asked for", function()
      local client <close> = http.client()
      local t = start(client, "/echo", { body = "x" })
      client:wait(t)
      assert.equal(t:result(), t:result())
    end)

    it("may have any status", function()
      local client <close> = http.client()
      for _, status in ipairs { 202, 301, 403, 410, 413, 500, 599 } do
        local answer = assert(ask(client, "/status/" .. status))
        assert.equal(status, answer.status)
        assert.equal("such is life", answer.body)
      end
      local empty = assert(ask(client, "/status/204"))
      assert.equal(204, empty.status)
      assert.equal("", empty.body)
    end)

    it("has names in lower case, values trimmed, repeated ones joined",
      function()
        local client <close> = http.client()
        assert.same({ ["lambda-runtime-x"] = "a b", empty = "", blank = "",
          twice = "1, 2", ["content-length"] = "0" },
          assert(ask(client, "/headers")).headers)
      end)

    it("arrives in one-byte pieces", function()
      local client <close> = http.client()
      assert.equal("pieces", body(client, "/pieces"))
    end)

    it("arrives in chunks, whose trailers are no headers", function()
      local client <close> = http.client()
      local answer = assert(ask(client, "/chunks"))
      assert.equal("chunks", answer.body)
      assert.is_nil(answer.headers["x-after"])
    end)

    it("ends with its connection where it has no length", function()
      local client <close> = http.client()
      assert.equal("as long as it lasts", body(client, "/untold"))
    end)

    it("is what follows the interim ones", function()
      local client <close> = http.client()
      local answer = assert(ask(client, "/interim"))
      assert.equal(200, answer.status)
      assert.equal("final", answer.body)
      assert.same({ ["x-yes"] = "3", ["content-length"] = "5" },
        answer.headers)
    end)

    it("may be large, and the request too", function()
      local client <close> = http.client()
      for _, n in ipairs { MIB, 20 * MIB } do
        local text = bytes(n)
        assert.is_true(text == body(client, "/echo", { body = text }))
      end
    end)

    it("to HEAD has no body", function()
      local client <close> = http.client()
      local answer = assert(ask(client, "/raw", { method = "HEAD" }) or
        { body = "" })
      assert.equal("", answer.body)
    end)
  end)

  describe("a request", function()
    before_each(log)

    it("has no headers but those given", function()
      local client <close> = http.client()
      body(client, "/echo")
      assert.same({ "Host: " .. server.address() }, sent_headers())
      body(client, "/echo", { body = ("x"):rep(2 * MIB), headers = {
        "content-type: text/plain", "X-Empty:", "Accept: a/b" } })
      assert.same({ "Accept: a/b", "Content-Length: 2097152",
        "Host: " .. server.address(), "X-Empty:", "content-type: text/plain" },
        sent_headers())
    end)

    it("has its method, and a body where there is one", function()
      local client <close> = http.client()
      body(client, "/echo")
      body(client, "/echo", { body = "" })
      body(client, "/echo", { body = "a\0b" })
      body(client, "/echo", { method = "POST" })
      body(client, "/echo", { method = "PUT", body = "1" })
      body(client, "/echo", { method = "DELETE" })
      body(client, "/echo", { method = "GET", body = "12" })
      assert.same({ "1 GET /echo 0", "1 POST /echo 0", "1 POST /echo 3",
        "1 POST /echo 0", "1 PUT /echo 1", "1 DELETE /echo 0",
        "1 GET /echo 2" }, log())
    end)

    it("has its path as given", function()
      local client <close> = http.client()
      body(client, "/echo/../%2F/" .. http.escape("a:b/ \n\xff"))
      assert.same({ "1 GET /echo/../%2F/a%3Ab%2F%20%0A%FF 0" }, log())
    end)

    it("passes over the proxies of the environment", function()
      assert.equal("proof\n", script.output(([[
        local http = require "luapool.http"
        local client <close> = http.client()
        local t = client:start { url = %q, body = "proof" }
        client:wait(t)
        print(assert(t:result()).body)
      ]]):format(url "/echo"), { env = { http_proxy = "http://127.0.0.1:1",
        ALL_PROXY = "http://127.0.0.1:1" } }))
    end)
  end)

  describe("a connection", function()
    before_each(log)

    it("is kept", function()
      local client <close> = http.client()
      for _ = 1, 3 do body(client, "/size/0") end
      assert.same({ "1 GET /size/0 0", "1 GET /size/0 0", "1 GET /size/0 0" },
        log())
    end)

    it("is made anew for a `fresh` request, and the answer says so", function()
      local client <close> = http.client()
      local used = {}
      for _, fresh in ipairs { false, false, true, false } do
        local answer = assert(ask(client, "/size/0", { fresh = fresh }))
        used[#used + 1] = answer.reused
      end
      assert.same({ false, true, false, true }, used)
    end)

    it("is made anew where the other side closed it", function()
      local client <close> = http.client()
      local other <close> = http.client()
      for i = 1, 2 do
        body(client, "/close", { body = "x", once = true })
        body(other, "/closed/" .. i)
      end
      body(client, "/size/0")
      local lines = log()
      assert.equal("3 POST /close 1", lines[3])
      assert.equal("4 GET /size/0 0", lines[5])
    end)

    it("that ends without an answer makes a GET go out again", function()
      local client <close> = http.client()
      assert.equal("fresh", body(client, "/drop"))
      assert.equal("fresh", body(client, "/drop"))
      assert.same({ "1 GET /drop 0", "1 GET /drop 0", "2 GET /drop 0" }, log())
    end)

    it("that ends without an answer makes nothing go out twice with `once`",
      function()
        for path, n in pairs { drop = 0, half = 0 } do
          for _, text in ipairs { "", "four", ("x"):rep(MIB) } do
            local client <close> = http.client()
            local request = { body = text, once = true }
            assert.equal("fresh", body(client, "/" .. path, request))
            local answer, message, kind = ask(client, "/" .. path, request)
            assert.is_nil(answer)
            -- A body that is still being sent may meet the reset.
            if not (path == "half" and #text == MIB and kind == "send") then
              assert.equal("recv", kind)
              assert.equal("the connection ended without an answer; the " ..
                "request was not sent again", message)
            end
            n = n + 2
          end
          assert.equal(n, #log())
        end
      end)

    it("is used again after that", function()
      local client <close> = http.client()
      body(client, "/drop", { body = "x", once = true })
      assert.is_nil(ask(client, "/drop", { body = "x", once = true }))
      assert.equal("fresh", body(client, "/drop", { body = "y", once = true }))
    end)
  end)

  describe("a failure", function()
    local function fails(kind, path, request)
      local client <close> = http.client()
      local answer, message, got = ask(client, path, request)
      assert.is_nil(answer)
      assert.equal(kind, got)
      assert.is_true(#message > 0)
      return message
    end

    it("to connect", function()
      local client <close> = http.client()
      local t = client:start { url = "http://127.0.0.1:1/" }
      assert.is_true(client:wait(t))
      local answer, message, kind = t:result()
      assert.is_nil(answer)
      assert.equal("connect", kind)
      assert.truthy(message:find("127.0.0.1 port 1", 1, true), message)
    end)

    it("to receive all", function()
      for _, text in ipairs {
        "", "HTTP/1.1 200 OK\r\nConte", "HTTP/1.1 200 OK\r\nX: y\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nthree",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nthree",
        "HTTP/1.1 abc\r\n\r\n", "lorem ipsum\r\n\r\ndolor",
        "HTTP/1.1 200 OK\r\n: nameless\r\n\0\r\n\r\n",
      } do
        local client <close> = http.client()
        local answer, message, kind = ask(client, "/raw",
          { body = text, once = true })
        assert.is_nil(answer, text)
        assert.equal("recv", kind, message .. text)
      end
      fails("recv", "/colonless")
    end)

    it("by a reset", function()
      for _, text in ipairs { "HTTP/1.1 200 OK\r\nConte",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nthree" } do
        local client <close> = http.client()
        local t = start(client, "/rst", { body = text })
        client:wait(t, 0.02)
        body(client, "/release/rst")
        assert.is_true(client:wait(t, 20))
        local answer, _, kind = t:result()
        assert.is_nil(answer)
        assert.equal("recv", kind)
      end
    end)

    it("in time", function()
      local begun = gate.now()
      assert.equal("no answer in time", fails("timeout", "/never",
        { timeout = 0.1 }))
      assert.is_true(gate.now() - begun < 5)
      local client <close> = http.client()
      assert.equal("True", body(client, "/gone"))
    end)

    it("of the request itself", function()
      local client <close> = http.client()
      for _, bad in ipairs { "https://127.0.0.1/", "file:///etc/passwd", "",
        "http://127.0.0.1:1/\r\nX: y", "http://a b/", "http://[::1" } do
        local t = client:start { url = bad }
        assert.is_true(client:wait(t))
        local answer, _, kind = t:result()
        assert.is_nil(answer)
        assert.equal("other", kind)
      end
    end)
  end)

  describe("waiting", function()
    it("ends when time is up, and goes on later", function()
      local client <close> = http.client()
      local t = start(client, "/hold/a")
      assert.is_false(client:wait(t, 0))
      assert.is_false(client:wait(t, 0.01))
      body(client, "/release/a")
      assert.is_true(client:wait(t))
      assert.equal("released", t:result().body)
    end)

    it("for one lets the others go on", function()
      local client <close> = http.client()
      local open = start(client, "/hold/b")
      local large = start(client, "/size/" .. 4 * MIB)
      body(client, "/release/b")
      assert.is_true(client:wait(open))
      assert.is_true(client:wait(large))
      assert.equal(4 * MIB, #large:result().body)
    end)

    it("is ended by an interrupt", function()
      assert.equal("nil\ntrue\tfalse\n", script.output(([[
        local host, http = require "luapool.host", require "luapool.http"
        local client <close> = http.client()
        local t = client:start { url = %q }
        client:wait(t, 0.01)
        os.execute("(sleep 0.2; kill -INT $PPID) >/dev/null &")
        print(client:wait(t))
        print(host.interrupted(), client:wait(t, 0))
      ]]):format(url "/never")))
    end)

    it("was stopped, and the limits with it", function()
      assert.equal("false\n", script.output(([[
        local client <close> = require("luapool.http").client()
        local t = client:start { url = %q, timeout = 1.2 }
        client:wait(t, 0.01)
        os.execute("(sleep 0.1; kill -STOP $PPID; sleep 1.5; " ..
          "kill -CONT $PPID) >/dev/null &")
        print(client:wait(t, 0.4))
      ]]):format(url "/never")))
    end)
  end)

  describe("a stream", function()
    local function stream(client, path, request)
      request = request or {}
      request.streaming = true
      return start(client, path, request)
    end

    it("is written bit by bit, and ends with trailers", function()
      log()
      local client <close> = http.client()
      local t = stream(client, "/echo", { headers = { "Trailer: A, B" } })
      for _, part in ipairs { "one", "", " two", " three" } do
        assert.is_true(t:write(part))
      end
      assert.is_true(t:finish { "A: 1", "B: b b" })
      assert.is_true(client:wait(t))
      local answer = assert(t:result())
      assert.equal("one two three", answer.body)
      assert.equal("A: 1|B: b b", answer.headers["x-trailers"])
      assert.same({ "Host: " .. server.address(), "Trailer: A, B",
        "Transfer-Encoding: chunked" }, sent_headers())
    end)

    it("may be empty, and need no trailers", function()
      local client <close> = http.client()
      for _, trailers in ipairs { false, {} } do
        local t = stream(client, "/echo")
        t:finish(trailers or nil)
        assert.is_true(client:wait(t))
        assert.equal("", t:result().body)
        assert.equal("", t:result().headers["x-trailers"])
      end
    end)

    it("may be large", function()
      local client <close> = http.client()
      local text = bytes(20 * MIB)
      local t = stream(client, "/echo")
      assert.is_true(t:write(text))
      for _ = 1, 100 do assert.is_true(t:write("a little more")) end
      t:finish()
      assert.is_true(client:wait(t))
      assert.is_true(text .. ("a little more"):rep(100) == t:result().body)
    end)

    it("waits for a server that does not read", function()
      local client <close> = http.client()
      local t = stream(client, "/lazy/c")
      local other = start(client, "/hold/d")
      for i = 1, 64 do
        if i == 3 then body(client, "/release/c") end
        assert.is_true(t:write(("x"):rep(MIB)))
      end
      t:finish()
      assert.is_true(client:wait(t))
      assert.truthy(t:result().body:find("^67108864 "))
      other:cancel()
    end)

    it("ends where the answer came before", function()
      for _, status in ipairs { 200, 413 } do
        local client <close> = http.client()
        local t = stream(client, "/early/" .. status)
        local ok, message
        repeat ok, message = t:write(("x"):rep(10000)) until not ok
        assert.is_nil(ok)
        assert.equal("the answer came before the end of the body", message)
        assert.is_nil(t:write("x"))
        assert.is_nil(t:finish())
        body(client, "/release/early")
        assert.is_true(client:wait(t))
        assert.equal(status, t:result().status)
        assert.equal("enough", t:result().body)
      end
    end)

    it("ends where it is reset", function()
      local client <close> = http.client()
      local t = stream(client, "/slam")
      local ok, message
      repeat ok, message = t:write(("x"):rep(10000)) until not ok
      assert.is_nil(ok)
      assert.is_true(#message > 0)
      assert.is_true(client:wait(t))
      local answer, _, kind = t:result()
      assert.is_nil(answer)
      assert.is_true(kind == "send" or kind == "recv")
      assert.is_nil(t:finish())
    end)

    it("is finished once", function()
      local client <close> = http.client()
      local t = stream(client, "/hold/d")
      t:finish()
      assert.has_error(function() t:write("x") end, "the stream is finished")
      assert.has_error(function() t:finish() end, "the stream is finished")
    end)
  end)

  describe("an end", function()
    it("comes by cancel, a second time too", function()
      local client <close> = http.client()
      local t = start(client, "/never")
      client:wait(t, 0.02)
      t:cancel()
      t:cancel()
      assert.is_true(client:wait(t))
      assert.same({ n = 3, nil, "cancelled", "aborted" },
        table.pack(t:result()))
    end)

    it("comes by closing the client", function()
      local client = http.client()
      local t = start(client, "/never")
      client:wait(t, 0.02)
      client:close()
      client:close()
      assert.same({ n = 3, nil, "the client was closed", "aborted" },
        table.pack(t:result()))
      assert.has_error(function() client:wait(t) end,
        "the HTTP client is closed")
    end)

    it("comes by collection, in any order", function()
      for _ = 1, 20 do
        local client = http.client()
        for _ = 1, 3 do start(client, "/size/160") end
        client:wait(start(client, "/size/16"))
      end
      collectgarbage()
    end)

    it("comes with its scope", function()
      local client <close> = http.client()
      local kept
      do
        local t <close> = start(client, "/never")
        kept = t
      end
      assert.is_nil(kept:result())
    end)
  end)

  describe("in a worker", function()
    -- Sockets of this process.
    local function sockets()
      local n = 0
      for _, name in pairs(require("spec.support.leaks").fds()) do
        if name:find("^socket:") then n = n + 1 end
      end
      return n
    end

    it("there is no socket", function()
      local client <close> = http.client()
      local open = start(client, "/hold/e")
      body(client, "/size/0")
      assert.is_true(sockets() >= 2)
      local pool <close> = luapool.Pool(2)
      assert.same({ 0, 0 }, pool:map(function() return sockets() end,
        { 1, 2 }))
      body(client, "/release/e")
      assert.is_true(client:wait(open))
    end)

    it("no file goes with the number of a socket that did not connect",
      function()
        local client <close> = http.client()
        for _ = 1, 3 do
          client:wait(client:start { url = "http://127.0.0.1:1/" })
        end
        local file <close> = assert(io.open("LICENSE"))
        local pool <close> = luapool.Pool(1)
        assert.is_true(pool:apply(function()
          for _, name in pairs(require("spec.support.leaks").fds()) do
            if name:find("/LICENSE$") then return true end
          end
        end), tostring(file))
      end)

    it("every call raises, and collecting does nothing", function()
      local client <close> = http.client()
      local open = start(client, "/hold/f")
      local name = "spec.http.held"
      package.loaded[name] = { client, open }
      local pool <close> = luapool.Pool(1)
      local messages = pool:apply(function()
        local c, t = table.unpack(require(name))
        local found = {}
        for _, f in ipairs { function() c:start {} end,
          function() c:wait(t) end, function() c:close() end,
          function() t:result() end, function() t:cancel() end,
          function() t:write("") end, function() t:finish() end } do
          found[#found + 1] = select(2, pcall(f)):match(": (.*)")
        end
        package.loaded[name], c, t = nil, nil, nil
        collectgarbage()
        return found
      end)
      package.loaded[name] = nil
      local c = "this HTTP client belongs to another process"
      local t = "this HTTP transfer belongs to another process"
      assert.same({ c, c, c, t, t, t, t }, messages)
      body(client, "/release/f")
      assert.is_true(client:wait(open))
      assert.equal("released", open:result().body)
    end)

    it("a client of its own works", function()
      local there = url "/echo"
      local pool <close> = luapool.Pool(2)
      assert.same({ "1", "2", "3" }, pool:map(function(text)
        local client <close> = require("luapool.http").client()
        local t = client:start { url = there, body = text }
        client:wait(t)
        return t:result().body
      end, { "1", "2", "3" }))
    end)
  end)

  describe("misuse", function()
    it("is an error at the caller's line", function()
      local client <close> = http.client()
      for want, request in pairs {
        ["unknown field 'ulr'"] = { ulr = "x" },
        ["unknown field '?'"] = { "x" },
        ["field 'url' is missing"] = {},
        ["field 'url': string expected, got number"] = { url = 1 },
        ["field 'url' contains a zero byte"] = { url = "http://a\0b" },
        ["field 'method' is not a method"] = { url = "x", method = "A B" },
        ["field 'timeout' must be positive"] = { url = "x", timeout = 0 },
        ["field 'connect_timeout' must be positive"] =
          { url = "x", connect_timeout = 0 / 0 },
        ["field 'timeout': number expected, got string"] =
          { url = "x", timeout = "1" },
        ["field 'once': boolean expected, got number"] =
          { url = "x", once = 1 },
        ["field 'body': string expected, got table"] = { url = "x", body = {} },
        ["a stream has no field 'body'"] =
          { url = "x", body = "", streaming = true },
        ["field 'headers': table expected, got string"] =
          { url = "x", headers = "A: b" },
        ["headers[2] is not a line 'Name: value'"] =
          { url = "x", headers = { "A: b", "A" } },
        ["headers[1] is not a line 'Name: value'"] =
          { url = "x", headers = { "A: b\r\nC: d" } },
      } do
        local ok, message = pcall(function() client:start(request) end)
        assert.is_false(ok)
        assert.equal("spec/http_spec.lua", message:match("^[^:]+"))
        assert.equal(("bad argument #1 to 'start' (%s)"):format(want),
          message:match("^[^:]+:%d+: (.*)"))
      end
    end)

    it("of transfers is one too", function()
      local client <close> = http.client()
      local other <close> = http.client()
      local t = start(client, "/hold/g")
      assert.has_error(function() t:result() end, "the transfer is not over")
      assert.has_error(function() t:write("x") end,
        "the transfer is not a stream")
      assert.has_error(function() other:wait(t) end,
        "bad argument #1 to 'wait' (a transfer of another client)")
      local s = start(client, "/hold/h", { streaming = true })
      assert.has_error(function() s:finish { "x\n: y" } end,
        "bad argument #1 to 'finish' " ..
        "(trailers[1] is not a line 'Name: value')")
    end)
  end)

  it("is interrupted while it writes, and keeps the bytes", function()
    assert.equal("nil\tinterrupted\ntrue\n33554432\n", script.output(([[
      local host, http = require "luapool.host", require "luapool.http"
      local url = %q
      local client <close> = http.client()
      local t = client:start { url = url .. "/lazy/i", streaming = true }
      host.busy(true)
      io.popen("kill -INT $PPID"):close()
      print(t:write(("x"):rep(1 << 25)))
      print(host.interrupted())
      host.busy(false)
      client:wait(client:start { url = url .. "/release/i" })
      t:finish()
      client:wait(t)
      print((t:result().body:match("%%d+")))
    ]]):format(url "")))
  end)

  it("leaves the flag of an interrupt to who asks", function()
    assert.is_false(host.interrupted())
  end)
end)
