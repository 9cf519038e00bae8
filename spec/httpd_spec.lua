-- SPDX-License-Identifier: MIT
-- The HTTP server behind `lambdapool local`, asked by curl and by bytes on a
-- socket, in the same wait as everything else.
local gate = require "spec.support.gate"
local host = require "luapool.host"
local httpd = require "luapool.httpd"
local leaks = require "spec.support.leaks"
local quote = require("spec.support.script").quote

local LIMIT = 15 -- seconds a client may take

local server, seen

local function open(most)
  server = assert(httpd.listen(0, most or 1024 * 1024))
  seen = {}
end

-- Starts a shell command, in which $URL and $PORT are the server's. Returns a
-- function: its output once it has ended, else nil.
local function client(line)
  local out = gate.name()
  local port = server:port()
  local pipe = assert(io.popen(
    ("exec bash -c %s"):format(quote(
      ("PORT=%d; URL=http://127.0.0.1:%d; { %s\n} >%s 2>&1; echo x >%s.end")
      :format(port, port, line, out, out)))))
  return function()
    if gate.read(out .. ".end") == "" then return nil end
    if pipe then pipe:close() end
    pipe = nil
    os.remove(out .. ".end")
    return gate.read(out)
  end
end

-- Waits once, and calls handler with every request that has news.
local function step(handler)
  host.poll({ server:fileno() }, math.min(server:timeout() or 0.02, 0.02))
  for _, request in ipairs(server:step()) do
    seen[#seen + 1] = request:state()
    handler(request)
  end
end

-- Serves until the condition has a true value: that.
local function wait_until(condition, handler)
  local limit = gate.now() + LIMIT
  repeat
    step(handler)
    local value = condition()
    if value then return value end
  until gate.now() > limit
  error("it did not happen in time", 2)
end

-- Serves a client until it has ended; its output.
local function serve(line, handler) return wait_until(client(line), handler) end

-- A handler that answers each whole request by f's results.
local function answering(f)
  return function(request)
    if request:state() == "complete" then request:respond(f(request)) end
  end
end

local echo = answering(function(request)
  return 200, { "X-Method: " .. request:method() }, request:body()
end)

describe("the HTTP server", function()
  leaks.guard(before_each, after_each)
  leaks.finish(function()
    if server then server:close() end
    server = nil
  end)

  it("gets a request and gives an answer", function()
    open()
    local text = serve(
      "curl -sS -i -d hello -H 'X-One: 1' $URL/a%20b?q=1+2%263",
      answering(function(r)
        return 418, { "X-Two: 2", "X-Three: a: b" }, table.concat({
          r:method(), r:path(), r:argument "q", r:header "x-one",
          tostring(r:header "x-none"), r:body(), r:size(),
        }, " ")
      end))
    assert.truthy(text:find "^HTTP/1.1 418 ")
    assert.truthy(text:find "\r\nX%-Two: 2\r\n")
    assert.truthy(text:find "\r\nX%-Three: a: b\r\n")
    assert.truthy(text:find "\r\n\r\nPOST /a b 1 2&3 1 nil hello 5$")
  end)

  it("keeps connections, and knows pipelined requests", function()
    open()
    assert.are.equal("onetwo", serve(
      "curl -sS -d one $URL/1 --next -sS -d two $URL/2", echo))
    local text = serve([[exec 3<>/dev/tcp/127.0.0.1/$PORT
      { printf 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n'
        printf 'PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n'
        printf 'Connection: close\r\n\r\nabc'; } >&3; cat <&3]], echo)
    assert.are.equal(2, select(2, text:gsub("HTTP/1.1 200 OK", "")))
    assert.truthy(text:find "X%-Method: GET.*X%-Method: PUT.*abc$")
  end)

  it("gets bodies in one-byte pieces, in chunks, and trailers", function()
    open()
    local trailer
    local text = serve([[exec 3<>/dev/tcp/127.0.0.1/$PORT
      send() { for ((i = 0; i < ${#1}; i++)); do
        printf %s "${1:i:1}" >&3; done; }
      cr=$'\r\n'
      send "POST /x HTTP/1.1${cr}Host: x${cr}Transfer-Encoding: chunked$cr"
      send "Trailer: X-End${cr}Connection: close$cr$cr"
      send "3${cr}abc${cr}2${cr}de${cr}0${cr}X-End: now$cr$cr"
      cat <&3]], answering(function(r)
        trailer = r:trailer "x-end"
        return 200, nil, r:body()
      end))
    assert.truthy(text:find "\r\n\r\nabcde$")
    assert.are.equal("now", trailer)
  end)

  it("has trailers of 90,000 bytes", function()
    open()
    local n
    serve([[exec 3<>/dev/tcp/127.0.0.1/$PORT
      { printf 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n'
        printf 'Connection: close\r\n\r\n0\r\nX-Long: '
        head -c 90000 /dev/zero | tr '\0' x; printf '\r\n\r\n'; } >&3
      cat <&3]], answering(function(r)
        n = #r:trailer "X-Long"
        return 200
      end))
    assert.are.equal(90000, n)
  end)

  it("waits for answers as long as it takes, in any order", function()
    open()
    local held = {}
    local first, second = client "curl -sS $URL/1", client "curl -sS $URL/2"
    local function hold(r)
      if r:state() == "complete" then held[r:path()] = r end
    end
    wait_until(function() return held["/1"] and held["/2"] end, hold)
    assert.is_nil(server:timeout())
    assert.is_true(held["/2"]:respond(200, nil, "second"))
    assert.is_nil(held["/2"]:respond(200, nil, "again"))
    assert.are.equal("second", wait_until(second, hold))
    assert.is_nil(first())
    held["/1"]:respond(200, nil, "first")
    assert.are.equal("first", wait_until(first, hold))
  end)

  it("answers in pieces, as they come", function()
    open()
    local held
    local done = client "curl -sS -N $URL/; echo ' end'"
    local function hold(r) held = held or r end
    wait_until(function() return held end, hold)
    assert.is_true(held:begin(200, { "X-A: b" }))
    local long = ("x"):rep(300000)
    for i = 1, 3 do
      assert.is_true(held:write(long .. i))
      for _ = 1, 5 do step(hold) end
      assert.is_nil(done())
    end
    held:finish()
    assert.are.equal(long .. "1" .. long .. "2" .. long .. "3 end\n",
      wait_until(done, hold))
    assert.is_nil(held:write "more")
  end)

  it("keeps no more of a body than it was told, and counts the rest",
    function()
      open(1000)
      local text = serve("head -c 5000 /dev/zero | tr '\\0' x | "
        .. "curl -sS --data-binary @- $URL/", answering(function(r)
          return 200, nil, #r:body() .. " of " .. r:size()
        end))
      assert.are.equal("1000 of 5000", text)
    end)

  it("has news of a body in chunks as it grows, and of a peer that goes",
    function()
      open()
      local go, got = gate.name(), ""
      local done = client(([[exec 3<>/dev/tcp/127.0.0.1/$PORT
        printf 'POST / HTTP/1.1\r\nHost: x\r\n' >&3
        printf 'Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n' >&3
        until test -e %s; do sleep 0.01; done]]):format(go))
      local function take(r) got = got .. r:body() end
      wait_until(function() return got == "ab" end, take)
      assert.are.equal("open", seen[#seen])
      gate.mark(go)
      wait_until(function() return seen[#seen] == "over" end, take)
      wait_until(done, take)
    end)

  it("ends with requests that nobody has answered", function()
    open()
    local held
    local done = client "curl -sS $URL/"
    wait_until(function() return held end, function(r) held = r end)
    server:close()
    server:close()
    assert.are.equal("over", held:state())
    assert.is_nil(held:respond(200, nil, "late"))
    assert.is_nil(held:begin(200))
    assert.is_nil(held:write "late")
    held:finish()
    assert.is_nil(held:header "Host")
    assert.has_error(function() server:step() end)
    gate.eventually(done)
  end)

  it("is on loopback alone, at a port of its own", function()
    open()
    local r = assert(io.open "/proc/net/tcp"):read "a"
    local hexadecimal = ("%04X"):format(server:port())
    assert.truthy(r:find("0100007F:" .. hexadecimal .. " 00000000:0000 0A"))
    assert.falsy(r:find("00000000:" .. hexadecimal))
    local other, message = httpd.listen(server:port(), 1)
    assert.is_nil(other)
    assert.truthy(message:find "^could not listen on 127.0.0.1:%d+: Address")
  end)

  it("sends no header that would be two", function()
    open()
    local failure
    serve("curl -sS $URL/", function(r)
      if r:state() ~= "complete" then return end
      failure = select(2, pcall(r.respond, r, 200, { "X: a\r\nY: b" }))
      r:respond(200)
    end)
    assert.truthy(failure:find "header 1 cannot be sent")
  end)

  it("carries 6 MB each way quickly", function()
    open(6 * 1024 * 1024)
    local path = gate.name()
    local before = gate.now()
    assert.are.equal("", serve(([[head -c 6291456 /dev/urandom >%s
      curl -sS --data-binary @%s $URL/ | cmp - %s]]):format(path, path, path),
      echo))
    assert.is_true(gate.now() - before < 5)
  end)
end)
