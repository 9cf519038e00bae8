-- SPDX-License-Identifier: MIT
-- A pool's work: it lets calls in, has workers supplied (luapool.dispatch) and
-- futures settled (luapool.outcomes). There is no thread: all of it happens in
-- step, which waits once.

local host = require "luapool.host"
local errors = require "luapool.error"
local dispatch = require "luapool.dispatch"
local limits = require "luapool.limits"
local outcomes = require "luapool.outcomes"
local seats = require "luapool.seat"
local supervisor = require "luapool.supervisor"

limits.pools = true

local clock, min, max = host.clock, math.min, math.max

-- Seconds of silence after which finished results are looked for.
local QUIET = 0.005

--- @type Scheduler
local Scheduler = {}
Scheduler.__index = Scheduler
for _, methods in ipairs { dispatch.methods, outcomes } do
  for name, f in pairs(methods) do
    Scheduler[name] = f
  end
end

local M = {}

local all = setmetatable({}, { __mode = "k" })
local made = 0

--- Starts a pool's workers.
-- @param o size, start_method, initializer, initargs, maxtasksperchild,
--   max_restarts, registered
-- @return the scheduler
-- @raise kind `broken` where no worker can be started
function M.new(o)
  local poller, message = host.poller()
  if not poller then
    errors.raise("broken", message)
  end
  local self = setmetatable(o, Scheduler)
  self.epoch = host.epoch()
  self.poller = poller
  self.session = host.session(0)
  self.seats, self.idle = {}, {}
  self.saturated = false -- no seat can be given a second chunk
  self.items_out = 0 -- with the workers, not answered
  self.events = {}
  self.queue, self.first, self.last = {}, 1, 0
  self.calls = {} -- all that are not over
  self.submitted, self.serial = 0, 0
  self.deadlines = 0 -- calls that have one
  self.leftovers = {} -- of those, the ones that are over before it
  self.timed = 0 -- chunks of calls with a time limit per task
  self.dying = 0 -- seats that have one until which to end
  self.frozen = 0 -- seconds that this process was stopped, in all
  self.finished = {} -- calls over, their futures not settled yet
  self.next_finished, self.last_finished = 1, 0
  self.unseen = {}
  self.abandoned, self.unwanted = {}, {} -- calls to be left, cancelled
  self.grace = 0.1
  for number = 1, self.size do
    self.seats[number] = seats.new(self, number)
  end
  supervisor.start(self)
  made = made + 1
  all[self] = made
  return self
end

--- Those of this process that have not ended, in the order of their making.
function M.all()
  local list = {}
  for s in pairs(all) do
    if s:owned() and s.state ~= "ended" then
      table.insert(list, s)
    end
  end
  table.sort(list, function(a, b) return all[a] < all[b] end)
  return list
end

--- Is every task submitted done? An imap whose iterator is not asked submits
-- nothing.
function Scheduler:drained()
  for call in pairs(self.calls) do
    if not call.open_ended or call.pending > 0 then
      return false
    end
  end
  return true
end

--- Is this the process that made it?
function Scheduler:owned()
  return self.epoch == host.epoch()
end

--- Raises kind `closed` where it is not.
function Scheduler:check_owned()
  if self.epoch ~= host.epoch() then
    errors.raise("closed", "the pool belongs to another process")
  end
end

-- User code runs in the middle of what changes the scheduler's state, though it
-- should not: finalizers at any allocation, metamethods of a function's own
-- _ENV. It must find the door shut, `inside`: what it asks for is done when the
-- door opens again, or refused where it would have to wait.
local function behind_door(self, f, ...)
  self.inside = true
  host.busy(true)
  local ok, result = pcall(f, self, ...)
  host.busy(false)
  self.inside = false
  return ok, result
end

--- Nothing is in the middle any more: ends the pool where that was asked for.
function Scheduler:open_door()
  self.inside = false
  if self.unwanted_pool then
    self.unwanted_pool = false
    self.pool:terminate()
  end
end

--- Runs f(self, ...), which changes the scheduler's state. Where that fails in
-- the middle, for want of memory above all, the state is not to be relied on:
-- the pool is broken, so that no later call waits for what never comes.
-- @return what f returns, one value
function Scheduler:guard(f, ...)
  local ok, result = behind_door(self, f, ...)
  if not ok and not errors.is(result) then
    local done, e = behind_door(self, supervisor.break_down,
      errors.text(result))
    result = done and result or e
  end
  self:open_door()
  if not ok then
    error(result, 0)
  end
  return result
end

--- Sends what can be sent. Called from inside, it is left to the next step.
function Scheduler:dispatch()
  if self.inside then
    self.undispatched = true
  else
    self:guard(dispatch.send)
  end
end

local function enter(self, call)
  self.submitted = self.submitted + 1
  self.calls[call] = true
  call.number = self.submitted
end

-- What a call that comes too late fails with: since it was checked the pool may
-- have been ended, by a finalizer.
local function refusal(self)
  if self.broken then
    return errors.copy(self.broken)
  elseif self.state == "terminated" or self.state == "ended" then
    return errors.new("terminated", "the pool was terminated")
  end
end

local function admit(self, call)
  enter(self, call)
  if call.timeout or (call.retries or 0) > 0 then
    call.one_by_one = true
  end
  if call.deadline_at then
    self.deadlines = self.deadlines + 1
    self.next_deadline = min(self.next_deadline or call.deadline_at,
      call.deadline_at)
  end
  local e = refusal(self)
  if e or call.pending == 0 and not call.open_ended then
    self:over(call, e)
    return false
  end
  dispatch.enqueue(self, call)
  return true
end

local function admit_and_send(self, call)
  if admit(self, call) and (#self.idle > 0 or not self.saturated) then
    dispatch.send(self)
  end
end

--- A new call. One that comes from inside is sent at the next step.
function Scheduler:submit(call)
  if self.inside then
    self.undispatched = admit(self, call) or self.undispatched
    return
  end
  self:guard(admit_and_send, call)
  self:settle()
  self:rearm()
end

--- A seat for the short way of an apply: where nothing else is to be done.
function Scheduler:quiet_seat()
  local seat = self.idle[#self.idle]
  if self.items_out == 0 and self.first > self.last and not self.inside
    and not self.maxtasksperchild and seat and seat:quiet() then
    return seat
  end
end

--- A call of which the seat has been sent its only item, as `serial`.
function Scheduler:adopt(call, seat, serial)
  self:guard(function()
    enter(self, call)
    seat:adopt(call, serial)
  end)
  self:settle()
end

--- An open-ended call is about to get more items.
function Scheduler:expect(call)
  dispatch.enqueue(self, call)
end

--- More items of a call that is open-ended.
function Scheduler:more(call)
  dispatch.enqueue(self, call)
  self:dispatch()
end

local function leave(self, call)
  if not call.over then
    self:drop(call, 1)
    self:over(call)
    dispatch.send(self)
  end
end

--- Nobody wants the call's results any more. What runs is left to end.
function Scheduler:leave(call)
  if self.inside then
    return self:abandon(call)
  end
  self:guard(leave, call)
  self:settle()
end

--- The same from a finalizer: at the next step.
function Scheduler:abandon(call)
  table.insert(self.abandoned, call)
end

local function cancel(self, call)
  self:stop(call, errors.new("cancelled", "cancelled"))
end

function Scheduler:cancel(call)
  if self.inside then
    table.insert(self.unwanted, call)
    return
  end
  self:guard(cancel, call)
  self:settle()
end

-- What was asked for at a time when it could not be done.
local function catch_up(self)
  while self.abandoned[1] do
    leave(self, table.remove(self.abandoned))
  end
  while self.unwanted[1] do
    cancel(self, table.remove(self.unwanted))
  end
  if self.undispatched then
    self.undispatched = false
    dispatch.send(self)
  end
end

-- Ends every call that has something pending, and whatever is still at work.
local function cut_short(self, e)
  for _, call in ipairs(self:all_calls()) do
    if call.pending > 0 then
      self:drop(call, 1)
      self:over(call, errors.copy(e))
    end
  end
  for _, seat in ipairs(self.seats) do
    if seat:at_work() then
      seat:kill(errors.copy(e))
    end
  end
  dispatch.send(self)
end

--- Ends all that is pending with this error, items of decided calls too.
-- Workers that are killed for it may still be alive.
function Scheduler:cut_short(e)
  self:guard(cut_short, e)
  self:settle()
end

--- Takes in whatever is finished, without waiting.
function Scheduler:take_in()
  self:guard(self.look)
  self:settle()
end

-- ----------------------------------------------------------------- the step

--- This process was stopped for so many seconds, and all of its pools with it.
function Scheduler:thaw(seconds)
  limits.thaw(seconds, M.all())
end

local function earlier(a, b)
  return a and b and min(a, b) or a or b
end

--- The time at which something has to be done without any event; nil: never.
function Scheduler:next_timer()
  return earlier(earlier(self.restless_at, self.look_at),
    earlier(supervisor.next_timer(self), limits.next(self)))
end

local READ, WRITE = 0, 1

local function handle_event(self, event)
  local seat, kind = self.seats[event >> 2], event & 3
  if not seat or not seat.handle then
    return -- an interrupt, or an event of one that ended earlier in this step
  elseif kind == READ then
    seat:receive()
    dispatch.refill(self, seat)
  elseif kind == WRITE then
    seat:flush()
  else
    supervisor.ended(self, seat)
  end
end

-- Ctrl-C came while the scheduler could not be left.
function Scheduler:interrupted()
  host.interrupted()
  errors.raise("interrupted", "interrupted!")
end

-- A worker collects the results of quick items before it writes them, and does
-- not know that the next item is a slow one. So where nothing is heard for a
-- moment after items were sent or answered, we look, until all workers are
-- found at the same item twice: that one is slow, and its result will not be
-- kept back. Returns whether there was anything new.
local function watch_outboxes(self)
  local news = false
  if self.look_at and clock() >= self.look_at then
    self.look_at = nil
    news = self:look()
  end
  if self.stirred or news then
    self.stirred = false
    local hidden = self.items_out > self.size - #self.idle
    self.look_at = hidden and clock() + QUIET or nil
  end
  return news
end

local function step(self, timeout, done, arg)
  catch_up(self)
  if done and done(arg) then -- a finalizer has come before us
    return
  end
  if watch_outboxes(self) or self:unsettled() then
    timeout = 0
  end
  if timeout ~= 0 then
    local at = self:next_timer()
    if at then
      timeout = min(timeout or math.huge, max(0, at - clock()))
    end
  end
  local events = self.events
  local n, frozen = self.poller:wait(timeout, events)
  if not n then
    self:interrupted()
  end
  if frozen then
    self:thaw(frozen)
  end
  for i = 1, n do
    handle_event(self, events[i])
  end
  self.stirred = self.stirred or n > 0
  limits.expire(self)
  supervisor.expire(self)
  dispatch.send(self)
end

--- Whoever watches the descriptor is told of what is due as well.
function Scheduler:arm()
  local at = self:next_timer()
  if self.stirred then
    at = min(at or math.huge, clock() + QUIET)
  end
  self.poller:arm(at and at - clock())
end

-- The same where others watch it.
function Scheduler:rearm()
  if self.watched and self.state ~= "ended" then
    self:arm()
  end
end

--- Waits once, at most `timeout` seconds (nil: until something happens), and
-- does what there is to do; nothing where done(arg) is true before.
-- @return done(arg) afterwards
-- @raise kind `closed` in another process, `interrupted`
function Scheduler:step(timeout, done, arg)
  self:check_owned()
  if self.inside then
    if timeout ~= 0 then
      error("the pool is at work: a finalizer cannot wait for it", 0)
    end
  elseif self.state ~= "ended" then
    self:guard(step, timeout, done, arg)
    self:settle()
    self:rearm()
  end
  return done and done(arg)
end

--- Steps until done(arg) or for `timeout` seconds; whether it is done. A
-- timeout of 0 or less looks once.
-- @raise as step; kind `timeout` where the time of the invocation is up
function Scheduler:run_until(done, arg, timeout)
  if timeout and timeout <= 0 then
    return self:step(0, done, arg)
  end
  local limit = timeout and clock() + timeout
  repeat
    if self:step(limits.within(limit and limit - clock()), done, arg) then
      return true
    elseif limits.time_is_up() then
      limits.raise_time_is_up { self }
    end
  until limit and clock() >= limit or self.state == "ended"
  return false
end

--- Tells worker processes of this pool apart, replacements too.
function Scheduler:next_serial()
  self.serial = self.serial + 1
  return self.serial
end

function Scheduler:fileno()
  if self.state == "ended" then
    errors.raise("closed", "the pool has ended")
  end
  self.watched = true
  self:arm()
  return self.poller:fileno()
end

M.Scheduler = Scheduler

return M
