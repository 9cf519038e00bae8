-- SPDX-License-Identifier: MIT
-- AWS_LAMBDA_MAX_CONCURRENCY: so many events at once, each with a poller of its
-- own, a process that loads the user's module and serves. The first process
-- only keeps them alive: it replaces those that are lost, and speaks to Lambda
-- where there is to be said something once.

local host = require "luapool.host"
local api = require "luapool.lambda.api"
local extension = require "luapool.lambda.extension"
local fault = require "luapool.lambda.fault"
local log = require "luapool.lambda.log"
local runtime = require "luapool.lambda.runtime"

local M = {}

local OPENING = 0.05 -- seconds in which the extension's request goes out
local GRACE = 0.05 -- seconds that their workers get to end: less than they
local YOUNG = 1 -- seconds; who is lost before is replaced with a pause
local PAUSE = 0.1 -- seconds
local FORKS = 6 -- tries, with pauses that double in between
local LOST_INITS = 3 -- in a row, pollers lost before they were ready

-- ------------------------------------------------------------- a poller

-- Tells the first process why this one ends.
local function say(link, kind, failure)
  link:fail(kind, failure.message, nil,
    { type = failure.type, stack = failure.stack })
  link:flush()
end

local function poll(link, session)
  session:child(0)
  link:session(session)
  math.randomseed(host.entropy())
  host.exit_on_term(0, GRACE)
  local handler, failure = runtime.load()
  if not handler then
    log.flush()
    return say(link, "init", failure)
  end
  link:ready()
  local client = api.new(os.getenv "AWS_LAMBDA_RUNTIME_API")
  local message = runtime.serve(client, handler)
  say(link, "gone", fault.new("Runtime.ExitError", message))
end

-- --------------------------------------------------- the first process

local EXITED = 2 -- kinds of events, as poller:wait has them; 0 is readable

local function fork(self, number)
  local handle, message = host.fork(function(link)
    poll(link, self.session)
  end)
  if not handle then
    return nil, message
  end
  local added, why = self.poller:add(handle, number)
  if not added then
    handle:terminate(0)
    handle:close()
    return nil, why
  end
  self.pollers[number] = { handle = handle, since = host.clock() }
  return true
end

-- What there is too little of now, processes or descriptors, may be free soon.
local function start(self, number)
  for try = 1, FORKS do
    if try > 1 then
      host.poll({}, PAUSE * 2 ^ (try - 2))
    end
    local ok, message = fork(self, number)
    if ok then
      return
    end
    log.write("ERROR", nil, "could not start a poller: " .. message)
  end
  self.over = true
end

local on = {}

function on.ready(self, poller)
  poller.ready, self.lost_inits = true, 0
end

function on.init(self, failure)
  runtime.init_failed(self.client, failure)
  self.over = true
end

function on.gone(self, failure)
  runtime.report(failure.message)
  self.over = true
end

-- Whatever a poller says, once it is over, is the same again.
local function hear(self, poller, number)
  local handle = poller.handle
  if handle:read() == nil then
    self.poller:forget_read(handle, number)
  end
  repeat
    local what, kind, message, _, details =
      handle:take(0, self.session, nil, 0)
    if what == "ready" then
      on.ready(self, poller)
    elseif what == "error" and not self.over then
      on[kind](self, fault.new(details.type, message, details.stack))
    end
  until not what
end

local function remove(self, poller, number)
  local handle = poller.handle
  local pid = handle:pid()
  self.pollers[number] = nil
  self.poller:remove(handle, number)
  local exitcode, signal = handle:reap()
  handle:close()
  return ("poller %d is lost: %s"):format(pid,
    signal and "killed by " .. host.signal_name(signal)
      or "it exited with status " .. exitcode)
end

-- A young one may be lost to what will befall the next as well.
local function replace(self, poller, number)
  if host.clock() - poller.since < YOUNG then
    host.poll({}, PAUSE)
  end
  start(self, number)
end

local function ended(self, poller, number)
  hear(self, poller, number)
  local message = remove(self, poller, number)
  if self.over then
    return
  end
  log.write("ERROR", nil, message)
  if not poller.ready then
    self.lost_inits = self.lost_inits + 1
    self.over = self.lost_inits == LOST_INITS
  end
  if not self.over then
    replace(self, poller, number)
  end
end

local function step(self, events)
  for i = 1, self.poller:wait(nil, events) or 0 do
    local number, kind = events[i] // 4, events[i] % 4
    local poller = self.pollers[number]
    if poller and kind == EXITED then
      ended(self, poller, number)
    elseif poller then
      hear(self, poller, number)
    end
  end
end

-- Its request must be on its way before an event can come.
local function extend(client)
  local e = extension.start(client)
  if e then
    client:wait(e.transfer, OPENING)
  end
  return e
end

--- Keeps n pollers until there is no going on.
-- @param client see luapool.lambda.api
-- @int n
function M.run(client, n)
  local self = {
    client = client,
    extension = extend(client),
    session = host.session(0),
    poller = assert(host.poller()),
    pollers = {},
    lost_inits = 0,
  }
  for number = 1, n do
    start(self, number)
  end
  local events = {}
  while not self.over do
    step(self, events)
  end
end

return M
