-- SPDX-License-Identifier: MIT
-- Time limits: of a task, of a call, of a worker that was told to end, of all
-- waiting in this process (luapool.invocation). A process that was stopped for
-- a while does not find them all passed.

local host = require "luapool.host"
local errors = require "luapool.error"
local pending = require "luapool.pending"

local clock, min = host.clock, math.min

local M = {
  pools = false, -- may there be any in this process? Set by the scheduler
}

-- When the item that the seat runs is out of time, and that item. For one that
-- has a limit and has not started it is a time to look again.
local function task_limit(self, seat, now)
  local chunk, index = seat:running()
  if chunk and chunk.call.timeout then
    local stopped = self.frozen - chunk.frozen
    return seat.handle:started() + chunk.call.timeout + stopped, chunk, index
  end
  for i = seat.head, seat.tail do
    local timeout = seat.chunks[i].call.timeout
    if timeout and seat.chunks[i] ~= chunk then
      return now + timeout
    end
  end
end

local function earlier(a, b)
  return a and b and min(a, b) or a or b
end

--- The time at which the next of the scheduler's limits passes; nil: never.
function M.next(self)
  local at
  if self.deadlines > 0 then
    at = self.next_deadline
  end
  if self.timed > 0 or self.dying > 0 then
    local now = clock()
    for _, seat in ipairs(self.seats) do
      if seat.handle then
        at = earlier(at, seat:next_timer())
        if self.timed > 0 and not seat.doom then
          at = earlier(at, task_limit(self, seat, now))
        end
      end
    end
  end
  return at
end

local function timeout_error(what, seconds)
  return errors.new("timeout", ("%s took more than %g s"):format(what, seconds))
end

local function expire_tasks(self, now)
  for _, seat in ipairs(self.seats) do
    if seat:at_work() then
      local limit, chunk, index = task_limit(self, seat, now)
      if chunk and limit <= now then
        local call = chunk.call
        seat:kill_item(call, index, timeout_error("the task", call.timeout))
      end
    end
  end
end

-- The earliest deadline, looked for only when the last one found has passed.
local function find_deadline(self)
  self.next_deadline = nil
  for call in pairs(self.calls) do
    self.next_deadline = earlier(self.next_deadline, call.deadline_at)
  end
  for _, call in ipairs(self.leftovers) do
    self.next_deadline = earlier(self.next_deadline, call.deadline_at)
  end
end

-- Items of calls that were decided before their time end with it all the same.
local function expire_leftovers(self, now)
  local rest = {}
  for _, call in ipairs(self.leftovers) do
    if call.deadline_at > now then
      table.insert(rest, call)
    else
      self.deadlines = self.deadlines - 1
      self:kill_running(call, timeout_error("the call", call.deadline))
    end
  end
  self.leftovers = rest
end

local function expire_calls(self, now)
  if self.deadlines == 0 or now < self.next_deadline then
    return
  end
  for _, call in ipairs(self:all_calls()) do
    if call.deadline_at and call.deadline_at <= now then
      self:stop(call, timeout_error("the call", call.deadline))
    end
  end
  expire_leftovers(self, now)
  find_deadline(self)
end

local function expire_seats(self, now)
  for _, seat in ipairs(self.seats) do
    local at = seat.handle and seat:next_timer()
    if at and at <= now then
      seat:overdue()
    end
  end
end

--- Does what is due.
function M.expire(self)
  if self.timed > 0 or self.deadlines > 0 or self.dying > 0 then
    local now = clock()
    expire_tasks(self, now)
    expire_calls(self, now)
    expire_seats(self, now)
  end
end

-- ------------------------------------------------------------ the invocation

-- When whoever waits in this process is to be told that time is up; nil: never.
-- A child's limit is not its parent's.
local invocation, epoch

--- Nobody waits for longer than that from now on.
-- @number[opt] seconds nil: as long as need be
function M.set_invocation(seconds)
  invocation = seconds and clock() + seconds
  epoch = host.epoch()
end

-- Seconds that are left; nil where there is no limit in this process.
local function left()
  return epoch == host.epoch() and invocation - clock() or nil
end

--- How long a wait of so many seconds (nil: any number) may be.
function M.within(seconds)
  return invocation and earlier(seconds, left()) or seconds
end

--- Is the invocation's time up?
function M.time_is_up()
  return invocation and (left() or 1) <= 0
end

--- Says so, and what these schedulers were waited for.
-- @raise kind `timeout`
function M.raise_time_is_up(schedulers)
  errors.raise("timeout", "the time of the invocation is up while waiting for "
    .. (pending.text(pending.of(schedulers)) or "workers to end"))
end

-- ------------------------------------------------------------------- freezes

local function thaw(self, seconds)
  self.frozen = self.frozen + seconds
  for call in pairs(self.calls) do
    if call.deadline_at then
      call.deadline_at = call.deadline_at + seconds
    end
  end
  find_deadline(self)
  for _, seat in ipairs(self.seats) do
    seat:thaw(seconds)
  end
end

--- This process was stopped for so many seconds: no limit of ours, or of these
-- schedulers', has passed in that time.
function M.thaw(seconds, schedulers)
  if invocation then
    invocation = invocation + seconds
  end
  for _, s in ipairs(schedulers) do
    thaw(s, seconds)
  end
end

return M
