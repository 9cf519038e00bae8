-- SPDX-License-Identifier: MIT
-- One bootstrap at a time: a process with a Runtime API of its own, what it
-- prints, and how it ends. It runs one invocation after another; the fleet
-- gives them, and steps it whenever something may have happened. Unlike
-- Lambda's it is not frozen between invocations, and its memory has no limit.

local host = require "luapool.host"
local environment = require "luapool.lambda.local.environment"
local ids = require "luapool.lambda.local.ids"
local outcome = require "luapool.lambda.local.outcome"
local report = require "luapool.lambda.local.report"
local runtime_api = require "luapool.lambda.local.runtime_api"

local M = {}

local SIGTERM, SIGKILL = 15, 9
local INIT_LIMIT = 10 -- seconds; then init is begun anew in the function's time
local GRACE = 0.5     -- seconds between TERM and KILL

local Sandbox = { RESPONSE_LIMIT = 6291556 } -- bytes
Sandbox.__index = Sandbox

local function start_program(self)
  local f = self.config
  local program, message = host.program {
    path = f.program, directory = f.root, argv = { "bootstrap" },
    env = environment.list(f, self.log_stream, self.server:port()),
  }
  if not program then error("could not start the bootstrap: " .. message, 0) end
  self.program, self.begun = program, host.clock()
  self.held, self.extensions, self.ready = nil, {}, false
end

--- Starts a bootstrap. May raise a string.
-- @tparam table config the function: name, handler, root, program (a path),
--   memory, timeout, arn, settings
-- @param httpd the module
function M.new(config, httpd)
  local self = setmetatable({ config = config }, Sandbox)
  self.server = assert(httpd.listen(0, Sandbox.RESPONSE_LIMIT + 1))
  self.log_stream = ids.log_stream()
  start_program(self)
  self.limit = self.begun + INIT_LIMIT
  return self
end

--- Can it take an invocation? Idle ones can at once.
-- @return boolean, boolean
function Sandbox:is_free()
  return not self.invocation and not self.ending, self.held ~= nil
end

--- Runs it, as soon as the runtime asks for it.
function Sandbox:run(invocation)
  self.invocation = invocation
  self:deliver()
end

-- The extensions have been told to wait until the first invocation, too.
local function all_wait(self)
  for _, extension in pairs(self.extensions) do
    if not extension.held then return false end
  end
  return self.held ~= nil
end

--- Hands the invocation over where the runtime is waiting for it.
function Sandbox:deliver()
  if not all_wait(self) then return end
  if not self.ready then
    self.ready, self.init_seconds = true, host.clock() - self.begun
  end
  local invocation = self.invocation
  if not invocation or invocation.begun then return end
  invocation:begin(self.config.timeout)
  report.start(self, invocation)
  local request = self.held
  self.held = nil
  runtime_api.send(request, invocation, self.config)
  runtime_api.tell(self, invocation)
end

--- Prints, and remembers it for whoever invoked.
function Sandbox:print(text)
  io.stdout:write(text)
  io.stdout:flush()
  if self.invocation then self.invocation:log(text) end
end

--- The running invocation has come out.
-- @string[opt] status for its report
function Sandbox:settle(payload, failed, status)
  self:read()
  local invocation = self.invocation
  report.finish(self, invocation, status)
  self.invocation, self.is_warm = nil, true
  invocation:settle(payload, failed)
end

--- Prints what the bootstrap has printed.
function Sandbox:read()
  local text = self.program:read()
  while text do
    self:print(text)
    text = self.program:read()
  end
end

--- The runtime has said why it cannot start. It is given time to leave.
function Sandbox:init_failed(payload)
  self.ending = host.clock() + GRACE
  if self.invocation then
    self.invocation:begin(self.config.timeout)
    self:settle(payload, true, "error")
  end
end

-- The process has ended by itself, or was killed. An invocation that it had not
-- got yet is left to be run elsewhere.
local function ended(self, code, signal)
  self:read()
  local invocation = self.invocation
  if invocation and self.ready and not invocation.begun then return end
  if invocation then
    if not invocation.begun then invocation:begin(self.config.timeout) end
    self:settle(outcome.exited(invocation, code, signal), true, "error")
  end
end

-- Its init takes too long. Lambda begins it anew within the first invocation,
-- and in the time of that.
local function init_again(self)
  self:print(("INIT_REPORT Init Duration: %.2f ms\tPhase: init\t"
    .. "Status: timeout\n"):format((host.clock() - self.begun) * 1e3))
  self.program:close()
  start_program(self)
  self.limit = self.begun + self.config.timeout
  self.init_was_late = true
end

local function timed_out(self)
  local invocation, timeout = self.invocation, self.config.timeout
  if not invocation.begun then
    invocation:begin(timeout)
    invocation.begun = self.begun
  end
  self:print(outcome.timeout_line(invocation, timeout))
  self:settle(outcome.timed_out(invocation, timeout), true, "timeout")
  self.program:kill(SIGKILL)
  self.ending = math.huge
end

local function check_limits(self, now)
  if self.ending then
    if now >= self.ending then
      self.program:kill(SIGKILL)
      self.ending = math.huge
    end
  elseif self.ready then
    local invocation = self.invocation
    if invocation and invocation.due and now >= invocation.due then
      timed_out(self)
    end
  elseif self.invocation and now >= self.limit then
    if self.init_was_late then timed_out(self) else init_again(self) end
  end
end

--- Does what can be done without waiting.
-- @return false once the process has ended
function Sandbox:step()
  for _, request in ipairs(self.server:step()) do
    runtime_api.serve(self, request)
  end
  self:read()
  local is_over, code, signal = self.program:ended()
  if is_over then
    ended(self, code, signal)
    return false
  end
  check_limits(self, host.clock())
  return true
end

--- What to wait for: enters its descriptors in the list.
-- @return seconds until it must be stepped
function Sandbox:watch(fds)
  fds[#fds + 1] = self.server:fileno()
  fds[#fds + 1] = self.program:output()
  fds[#fds + 1] = self.program:pidfd()
  local due = self.ending or math.huge
  if not self.ending and self.invocation then
    due = self.ready and self.invocation.due or self.limit
  end
  return math.min(due - host.clock(), self.server:timeout() or math.huge)
end

--- Asks it to leave, as Lambda does: without an extension it is killed.
function Sandbox:shut_down()
  if self.ending then return end
  local extended = next(self.extensions) ~= nil
  runtime_api.tell_shutdown(self, host.wall_clock() + GRACE * 1000)
  self.program:kill(extended and SIGTERM or SIGKILL)
  self.ending = host.clock() + GRACE
end

function Sandbox:close()
  self.program:close()
  self.server:close()
end

return M
