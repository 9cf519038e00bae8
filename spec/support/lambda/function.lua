-- SPDX-License-Identifier: MIT
-- One Lambda function for a spec: handler files in a directory of their own,
-- the host that runs the specs, started as `bootstrap` in the environment that
-- Lambda makes, and the Runtime API stand-in (runtime_api.py) it talks to.
-- Specs push events, wait for what the stand-in recorded, and look at requests,
-- output, status and processes. What holds for every function is checked when
-- it has ended: exactly one response or error for each event given out, in
-- turn; no Expect header; no process left.
local cjson = require "cjson"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local records = require "spec.support.lambda.record"
local script = require "spec.support.script"

local M = {}

local LIMIT = 40 -- seconds a function may live
local PATIENCE = 15 -- seconds any of its steps may take
local LINGER = 1 -- seconds after its end in which all of it must be gone

--- Is this the host under sanitizers, which use memory of their own?
M.sanitized = script.interpreter():find("asan", 1, true) ~= nil

local root = lfs.currentdir()
local API = root .. "/spec/support/lambda/runtime_api.py"
local quote = script.quote
local running = {} -- functions of the test at hand

-- -------------------------------------------------------------- the function

local Function = {}
Function.__index = Function

-- What of this process's environment the host is given: how sanitizers report,
-- and the sandbox's shim.
local PASSED_ON = { "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
  "LD_PRELOAD" }

-- Lambda's environment, and module paths that reach spec.support.
local function environment(self, opts)
  local env = {
    PATH = "/usr/local/bin:/usr/bin:/bin",
    LANG = "C.UTF-8",
    TZ = ":UTC",
    LAMBDA_TASK_ROOT = self.dir,
    AWS_REGION = "eu-central-1",
    AWS_LAMBDA_INITIALIZATION_TYPE = "on-demand",
    AWS_LAMBDA_FUNCTION_NAME = "spec",
    AWS_LAMBDA_FUNCTION_VERSION = "$LATEST",
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE = "3538", -- two CPUs
    AWS_LAMBDA_LOG_GROUP_NAME = "/aws/lambda/spec",
    AWS_LAMBDA_LOG_STREAM_NAME = "2026/11/21/[$LATEST]0123456789abcdef",
    AWS_LAMBDA_RUNTIME_API = self.address,
    _HANDLER = opts.handler or "main.handler",
    LUA_PATH_5_4 = root .. "/?.lua;;",
    LUA_CPATH_5_4 = root .. "/" .. faults.build .. "?.so;;",
    LUAPOOL_SPEC_MARK = self.out,
  }
  for _, name in ipairs(PASSED_ON) do env[name] = os.getenv(name) end
  for name, value in pairs(opts.env or {}) do env[name] = value or nil end
  local words = { "env -i" }
  for name, value in pairs(env) do
    words[#words + 1] = quote(name .. "=" .. value)
  end
  return table.concat(words, " ")
end

-- The command line of the host: its process id goes into a file, its output
-- into two. The shell becomes the host.
local function command(self, opts)
  local under = {}
  for i, word in ipairs(opts.under or {}) do under[i] = quote(word) end
  local line = ("cd %s && echo $$ >%s && exec -a bootstrap %s"):format(
    quote(opts.cwd or self.dir), quote(self.out .. ".pid"),
    quote(opts.program or script.interpreter()))
  return ("exec timeout -k 1 %g %s %s bash -c %s </dev/null >%s 2>%s"):format(
    opts.limit or LIMIT, environment(self, opts), table.concat(under, " "),
    quote(line), quote(self.out .. ".out"), quote(self.out .. ".err"))
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- Writes the handler's files; folders in their names are made.
local function write_files(self, opts)
  assert(lfs.mkdir(self.dir))
  local files = opts.files or {}
  if opts.code then files["main.lua"] = opts.code end
  for name, text in pairs(files) do
    for folder in name:gmatch "()/" do
      lfs.mkdir(self.dir .. "/" .. name:sub(1, folder - 1))
    end
    write(self.dir .. "/" .. name, text)
  end
end

local function start_api(self, opts)
  self.api_pipe = assert(io.popen(
    ("exec python3 -BES %s %s >%s 2>&1"):format(quote(API),
      quote(self.out .. ".api"), quote(self.out .. ".trouble")), "w"))
  self:api {
    host = opts.host, base = opts.base, events = opts.events,
    faults = opts.faults,
  }
  self.port = math.tointeger(self:wait_for { what = "listening" }.port)
end

local function default_address(self, opts)
  return ("127.0.0.1:%d%s"):format(self.port, opts.base or "")
end

--- Starts a function, its API first.
-- @param opts code: the text of main.lua; files: {name = text}; handler
--   (main.handler); env: {name = value}, false takes one away; events, faults,
--   base, host: as in runtime_api.py; address: function(port), the value of
--   AWS_LAMBDA_RUNTIME_API; program: another than the host; under: words before
--   the host (strace ...); cwd; limit: seconds; concurrent: more than one
--   poller; redelivered: events are given out again; unanswered: how many
--   events get no answer, true: any number; linger: seconds after its end in
--   which programs of the handler's own may go on
-- @return the function
function M.start(opts)
  local self = setmetatable({ out = os.tmpname(), records = {}, at = 0,
    pushed = opts.events and #opts.events or 0, opts = opts }, Function)
  running[#running + 1] = self
  self.dir = self.out .. ".d"
  write_files(self, opts)
  start_api(self, opts)
  self.address = (opts.address or default_address)(
    opts.address and self.port or self, opts)
  self.begun = gate.now()
  self.pipe = assert(io.popen(command(self, opts)))
  return self
end

--- A path of this function's own: removed with it.
function Function:path(suffix) return self.out .. "." .. suffix end

function Function:stdout() return gate.read(self.out .. ".out") end

function Function:stderr() return gate.read(self.out .. ".err") end

--- The host's process id.
function Function:pid()
  if not self.id then
    self.id = gate.eventually(function()
      return math.tointeger(gate.read(self.out .. ".pid"):match "^(%d+)\n")
    end, PATIENCE, "the start of the host")
  end
  return self.id
end

-- -------------------------------------------------------------- what was seen

-- Takes in what the stand-in has recorded since the last time.
local function refresh(self)
  local file = io.open(self.out .. ".api", "rb")
  if not file then return end
  file:seek("set", self.at)
  local text = file:read("a")
  file:close()
  local lines = text:match "^.*\n" or ""
  self.at = self.at + #lines
  for line in lines:gmatch "[^\n]+" do
    self.records[#self.records + 1] = records.new(cjson.decode(line),
      self.out .. ".api.bodies")
  end
end

local function matches(record, wanted)
  for key, value in pairs(wanted) do
    if record[key] ~= value then return false end
  end
  return true
end

--- All records so far with these fields.
function Function:all(wanted)
  refresh(self)
  local list = {}
  for _, record in ipairs(self.records) do
    if matches(record, wanted) then list[#list + 1] = record end
  end
  return list
end

--- The requests so far of a kind.
function Function:requests(kind)
  return self:all { what = "request", kind = kind }
end

-- For a failure's text: the last things that were recorded and said.
local function story(self)
  local t = {}
  for i = math.max(1, #self.records - 12), #self.records do
    local r = self.records[i]
    local on = r.connection and ("on %d"):format(r.connection)
    t[#t + 1] = table.concat({ r.what, r.kind or "", r.id or "", on or "" },
      " ")
  end
  return ("\nrecorded: %s\nstderr: %s\nstand-in: %s"):format(
    table.concat(t, "; "), self:stderr():sub(-2000),
    gate.read(self.out .. ".trouble"))
end

-- Calls fn until it gives a value; nil where that takes too long, or the host
-- has ended and all it did was recorded.
local function await(self, fn, seconds)
  local limit = gate.now() + (seconds or PATIENCE)
  while true do
    local value = fn()
    if value or gate.now() > limit then return value end
    if self.pipe and not leaks.alive(self:pid()) then
      limit = math.min(limit, gate.now() + LINGER)
    end
    gate.sleep(0.002)
  end
end

--- Waits for the nth (default: first) record with these fields.
function Function:wait_for(wanted, nth, seconds)
  local record = await(self, function()
    return self:all(wanted)[nth or 1]
  end, seconds)
  if not record then
    error(("no %s %s%s"):format(wanted.what, wanted.kind or wanted.id or "",
      story(self)), 2)
  end
  return record
end

--- Waits for the nth request of a kind.
function Function:wait_request(kind, nth, seconds)
  return self:wait_for({ what = "request", kind = kind }, nth, seconds)
end

-- How many requests for an event are open, and how many events were given out.
local function open_requests(self)
  local open, served = {}, 0
  refresh(self)
  for _, r in ipairs(self.records) do
    if r.what == "held" and r.kind == "next" then
      open[r.connection] = true
    elseif r.what == "served" or r.what == "closed" then
      open[r.connection] = nil
      if r.what == "served" then served = served + 1 end
    end
  end
  return leaks.size(open), served
end

--- Waits until the function has nothing to do: all events were given out, and
-- its pollers (default: the only one) wait for more.
function Function:wait_idle(pollers)
  local idle = await(self, function()
    local open, served = open_requests(self)
    return open >= (pollers or 1) and served >= self.pushed
  end)
  if not idle then error("no wait for events" .. story(self), 2) end
end

--- Waits for the response or error to an event.
function Function:wait_answer(id, seconds)
  return self:wait_for({ what = "request", id = id }, 1, seconds)
end

-- ------------------------------------------------------------ what is done

--- A command to the stand-in, as in runtime_api.py.
function Function:api(command_table)
  self.api_pipe:write(cjson.encode(command_table), "\n")
  self.api_pipe:flush()
end

--- Gives out an event.
-- @param event a body, or an event as in runtime_api.py
-- @return its id
function Function:push(event)
  event = type(event) == "table" and event or { body = event }
  self.pushed = self.pushed + 1
  event.id = event.id or "event-" .. self.pushed
  self:api { ["do"] = "push", event = event }
  return event.id
end

--- Gives out an event and waits for the answer to it.
-- @return the record of the response or error
function Function:invoke(event, seconds)
  return self:wait_answer(self:push(event), seconds)
end

--- Every living process of the function: a list of ids.
function Function:processes()
  local list = {}
  for pid in pairs(faults.marked(self.out)) do
    if leaks.alive(pid) then list[#list + 1] = pid end
  end
  table.sort(list)
  return list
end

--- Those but the host itself.
function Function:workers()
  local list = {}
  for _, pid in ipairs(self:processes()) do
    if pid ~= self:pid() then list[#list + 1] = pid end
  end
  return list
end

--- Sends a signal to the host.
function Function:kill(name) faults.kill(self:pid(), name) end

--- Stops every process of the function, as Lambda's freeze does, for a time.
function Function:freeze(seconds)
  local pids = self:processes()
  faults.kill(pids, "STOP")
  gate.sleep(seconds)
  faults.kill(pids, "CONT")
end

-- ------------------------------------------------------------------- the end

-- Where the requests of the only poller stand: an answer after each event, in
-- turn.
local function check_turns(self)
  local due
  for _, record in ipairs(self.records) do
    if record.what == "served" then
      if due then error(due .. " was not answered before the next", 0) end
      due = record.id
    elseif record.what == "request" and record.id then
      if record.id ~= due then
        error(("%s for %s, which was not due"):format(record.kind, record.id),
          0)
      end
      due = nil
    end
  end
  return due
end

local function check_each_once(self)
  local answers, open = {}, 0
  for _, r in ipairs(self:all { what = "request" }) do
    if r.id then
      answers[r.id] = (answers[r.id] or 0) + 1
      if answers[r.id] > 1 then error("a second answer to " .. r.id, 0) end
    end
  end
  for _, r in ipairs(self:all { what = "served" }) do
    if not answers[r.id] then open = open + 1 end
  end
  local allowed = self.opts.unanswered or 0
  if allowed ~= true and open ~= allowed then
    error(("%d events were not answered, not %d"):format(open, allowed), 0)
  end
end

local function check_requests(self)
  for _, r in ipairs(self:all { what = "head" }) do
    if r:header "expect" then
      error("an Expect header with " .. r.path, 0)
    end
    if r.method == "GET" and r:header "content-length" then
      error("a GET with a body: " .. r.path, 0)
    end
  end
  if #self:all { what = "pipelined" } > 0 then
    error("pipelined requests", 0)
  end
end

local function check(self)
  refresh(self)
  if not (self.opts.concurrent or self.opts.unanswered == true) then
    check_turns(self)
  end
  if not self.opts.redelivered then check_each_once(self) end
  check_requests(self)
  local trouble = gate.read(self.out .. ".trouble")
  if trouble ~= "" then error("the stand-in failed: " .. trouble, 0) end
end

-- What is left when the host is gone: killed, and an error.
local function check_nothing_left(self)
  local limit = gate.now() + (self.opts.linger or LINGER)
  while #self:processes() > 0 and gate.now() < limit do gate.sleep(0.005) end
  local left = {}
  for pid, name in pairs(faults.marked(self.out)) do
    faults.kill(pid, "KILL")
    left[#left + 1] = pid .. " (" .. name:gsub("%z", " ") .. ")"
  end
  if #left > 0 then
    error("the function left processes: " .. table.concat(left, ", "), 0)
  end
end

-- The stand-in and the files go.
local function clean(self)
  if self.api_pipe then self.api_pipe:close() end
  os.execute(("rm -rf %s %s.*"):format(self.out, self.out))
end

local function forget(self)
  for i = #running, 1, -1 do
    if running[i] == self then table.remove(running, i) end
  end
end

--- Waits for the end of the host, then for the stand-in's, and checks what
-- holds for every function.
-- @return {stdout=, stderr=, status=, seconds=}; status as a shell's, 124 where
--   the time was up; records can still be asked for
function Function:wait()
  local _, how, code = self.pipe:close()
  self.pipe = nil
  local result = {
    stdout = self:stdout(), stderr = self:stderr(),
    status = how == "signal" and 128 + code or code,
    seconds = gate.now() - self.begun,
  }
  local ok, e = pcall(check_nothing_left, self)
  if ok then ok, e = pcall(check, self) end
  self.result = result
  -- Bodies are read after the end too: the files go with the test.
  self.api_pipe:close()
  self.api_pipe = nil
  if not ok then error(e .. story(self), 2) end
  return result
end

--- Tells it to end, by SIGTERM, and waits.
-- @return as wait; term: seconds from the signal to its end
function Function:stop()
  local pid = self:pid()
  local from = gate.now()
  self:kill "TERM"
  gate.eventually(function() return not leaks.alive(pid) end, PATIENCE,
    "the end by SIGTERM")
  local took = gate.now() - from
  local result = self:wait()
  result.term = took
  return result
end

-- After a test: what it did not end itself is killed.
local function end_all()
  for i = #running, 1, -1 do
    local self = running[i]
    if self.pipe then
      faults.kill(self:processes(), "CONT")
      faults.kill(self:processes(), "KILL")
      self.pipe:close()
      pcall(check_nothing_left, self)
    end
    clean(self)
    forget(self)
  end
end

--- Guards a block: functions end with their test, and leave nothing.
function M.guard(before_each, after_each)
  leaks.guard(before_each, after_each)
  leaks.finish(end_all)
end

return M
