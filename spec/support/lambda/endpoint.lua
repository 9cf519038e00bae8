-- SPDX-License-Identifier: MIT
-- A server of Lambda's Invoke operation for a spec, whoever made it: started,
-- asked over HTTP and by AWS's own client, ended, and looked for what it left.
local cjson = require "cjson"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local http = require "luapool.http"
local lambdapool = require "spec.support.lambda.package"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local script = require "spec.support.script"

local M = {}

local LIMIT = 50    -- seconds a server may live
local PATIENCE = 15 -- seconds any of its steps may take
local LINGER = 2    -- seconds after its end in which all of it must be gone

local root = lfs.currentdir()
local quote = script.quote
local venv = root .. "/build/venv/"
local running = {} -- servers of the test at hand

--- The function that all of them run, and its package.
M.app = root .. "/spec/support/lambda/app.lua"

--- Modules that do not load, for packages.
M.broken = { ["broken.lua"] = "return nil +", ["raises.lua"] = "error 'soon'" }

--- The zip of the function and of those modules.
-- @return its path, in a directory of its own
function M.package()
  local dir = os.tmpname()
  assert(os.remove(dir) and lfs.mkdir(dir))
  for name, text in pairs(M.broken) do
    local file <close> = assert(io.open(dir .. "/" .. name, "w"))
    file:write(text)
  end
  lambdapool.output(dir, "package broken.lua raises.lua " .. quote(M.app)
    .. " -o f.zip")
  return dir .. "/f.zip"
end

--- What that zip holds, unpacked.
-- @return a directory
function M.unpack()
  local zip = M.package()
  local dir = zip:match "^(.*)/"
  lambdapool.shell(dir, "python3 -m zipfile -e f.zip . && rm f.zip && "
    .. "chmod +x bootstrap luapool-runtime/l*[!b]")
  return dir
end

--- A program of the environment that hosts.sh makes, nil where it is missing.
function M.program(name)
  local path = venv .. "bin/" .. name
  return lfs.attributes(venv .. "made-of") and lfs.attributes(path) and path
end

--- What to define a block's tests by:
-- `it`, or `pending`, which skips them by name.
function M.tests_with(name, it, pending)
  if M.program(name) then return it end
  print(name .. " is not installed (spec/support/lambda/hosts.sh)")
  return pending
end

-- ------------------------------------------------------------ start and end

local Server = {}
Server.__index = Server

local function environment(self, opts)
  local set = { LUAPOOL_SPEC_MARK = self.mark }
  for name, value in pairs(opts.env or {}) do set[name] = value end
  local words = { "env" }
  for name, value in pairs(set) do
    words[#words + 1] = quote(name .. "=" .. value)
  end
  return table.concat(words, " ")
end

local function listens(port)
  return (os.execute(("bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d' 2>/dev/null")
    :format(port)))
end

--- A port that nobody listens at.
function M.free_port()
  local port = 20000 + leaks.pid() % 10000
  while listens(port) do port = port + 1 end
  return port
end

local function wait_until_listening(self)
  local limit = gate.now() + PATIENCE
  while not listens(self.port) do
    if gate.now() > limit or not self:pid() then
      error("nobody listens; printed: " .. self:printed(), 3)
    end
    gate.sleep(0.02)
  end
end

--- Starts one.
-- @param words the command: a list; =MARK at the end of one stands for the mark
--   that every process of it must have in its environment
-- @param opts env; directory; name: of the function (function); port: where it
--   will listen; or ready: a pattern of what it prints then, with the port
-- @return the server
function M.start(words, opts)
  local self = setmetatable({ mark = os.tmpname(),
    name = opts.name or "function" }, Server)
  running[#running + 1] = self
  local line = {}
  for i, word in ipairs(words) do
    line[i] = quote((tostring(word):gsub("=MARK$", "=" .. self.mark)))
  end
  self.pipe = assert(io.popen(
    ("echo $$ >%s.pid; cd %s; exec timeout -k 1 %d %s %s </dev/null "
    .. ">%s.out 2>&1"):format(self.mark, quote(opts.directory or root), LIMIT,
      environment(self, opts), table.concat(line, " "), self.mark)))
  self.port = opts.port or math.tointeger(self:wait_for(opts.ready))
  if opts.port then wait_until_listening(self) end
  return self
end

--- What it has printed so far.
function Server:printed() return gate.read(self.mark .. ".out") end

--- Waits until it has printed something that matches; returns the captures.
function Server:wait_for(pattern, nth)
  local ok, e = pcall(gate.eventually, function()
    return select(2, self:printed():gsub(pattern, "")) >= (nth or 1)
  end, PATIENCE, "output like " .. pattern)
  if not ok then error(e .. "\nprinted: " .. self:printed(), 2) end
  return self:printed():match(pattern)
end

--- A path of this server's own: removed with it.
function Server:path(suffix) return self.mark .. "." .. suffix end

--- The server's own process id: that of the only child of timeout; nil once it
-- has ended.
function Server:pid()
  local above = gate.eventually(function()
    return math.tointeger(gate.read(self.mark .. ".pid"))
  end)
  return leaks.alive(above) and gate.eventually(function()
    return not leaks.alive(above) or next(leaks.children(above))
  end) or nil
end

--- Every living process of it.
function Server:processes()
  local list = {}
  for pid in pairs(faults.marked(self.mark)) do
    if leaks.alive(pid) then list[#list + 1] = pid end
  end
  return list
end

local function check_nothing_left(self)
  local limit = gate.now() + LINGER
  while #self:processes() > 0 and gate.now() < limit do gate.sleep(0.005) end
  local left = {}
  for pid, name in pairs(faults.marked(self.mark)) do
    faults.kill(pid, "KILL")
    left[#left + 1] = pid .. " (" .. name:gsub("%z", " ") .. ")"
  end
  if #left > 0 then
    error("the server left processes: " .. table.concat(left, ", "), 0)
  end
end

-- Connections are not kept.
local function hang_up(self)
  if self.client then self.client:close() end
  self.client = nil
end

--- Waits for its end, after which nothing of it may be left.
-- @return {status=, printed=}
function Server:wait()
  hang_up(self)
  local _, how, code = self.pipe:close()
  self.pipe = nil
  check_nothing_left(self)
  return { status = how == "signal" and 128 + code or code,
    printed = self:printed() }
end

--- Sends it a signal (TERM) and waits.
-- @return as wait
function Server:stop(signal)
  faults.kill(self:pid(), signal or "TERM")
  return self:wait()
end

local function end_all()
  for i = #running, 1, -1 do
    local self = running[i]
    hang_up(self)
    if self.pipe then
      faults.kill(self:processes(), "KILL")
      self.pipe:close()
      pcall(check_nothing_left, self)
    end
    os.execute(("rm -rf %s %s.*"):format(self.mark, self.mark))
    running[i] = nil
  end
end

--- Guards a block: servers end with their test, and leave nothing.
function M.guard(before_each, after_each)
  leaks.guard(before_each, after_each)
  leaks.finish(end_all)
end

-- ----------------------------------------------------------------- requests

function Server:url() return "http://127.0.0.1:" .. self.port end

local INVOKE = "/2015-03-31/functions/%s/invocations"

--- Sends an event, without waiting.
-- @param event a table, or JSON
-- @param opts headers: a list; name: of the function; path: another
-- @return a transfer, for `answer`
function Server:send(event, opts)
  opts = opts or {}
  local path = opts.path or INVOKE:format(http.escape(opts.name or self.name))
  self.client = self.client or http.client()
  return self.client:start {
    url = self:url() .. path, method = opts.method or "POST",
    headers = opts.headers, timeout = 30,
    body = type(event) == "table" and cjson.encode(event) or event,
  }
end

--- Waits for the answer: {status=, headers=, body=}. All that was sent goes on
-- meanwhile.
function Server:answer(transfer)
  self.client:wait(transfer)
  local result, message = transfer:result()
  if not result then error(message .. "\n" .. self:printed(), 2) end
  return result
end

--- Sends an event and waits for the answer.
function Server:invoke(event, opts)
  return self:answer(self:send(event, opts))
end

--- The same for one that must come out well: the result, decoded.
function Server:result(event, opts)
  local answer = self:invoke(event, opts)
  if answer.status ~= 200 or answer.headers["x-amz-function-error"] then
    error(("status %d: %s"):format(answer.status, answer.body), 2)
  end
  return cjson.decode(answer.body)
end

--- The same for one that must fail: the error, decoded.
function Server:failure(event, opts)
  local answer = self:invoke(event, opts)
  if answer.headers["x-amz-function-error"] ~= "Unhandled" then
    error(("status %d: %s"):format(answer.status, answer.body), 2)
  end
  return cjson.decode(answer.body)
end

--- Calls of AWS's own client, as in client.py.
-- @return the list of results
function Server:boto(calls)
  local path = self:path "calls"
  local file <close> = assert(io.open(path, "w"))
  file:write(cjson.encode(calls))
  file:flush()
  local pipe = assert(io.popen(("exec %s -BE %s %s <%s 2>%s.trouble"):format(
    quote(M.program "python3"), quote(root .. "/spec/support/lambda/client.py"),
    self:url(), path, path)))
  local text = pipe:read "a"
  if not pipe:close() then error(gate.read(path .. ".trouble"), 2) end
  return cjson.decode(text)
end

return M
