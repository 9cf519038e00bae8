-- SPDX-License-Identifier: MIT
-- Who runs what: the queue of calls, and the chunks that are cut from them for
-- workers which have nothing, or too little, to do. Called by the scheduler.

local balance = require "luapool.balance"
local calls = require "luapool.call"
local sizing = require "luapool.sizing"
local supervisor = require "luapool.supervisor"

local min, max = math.min, math.max

local M = {}

--- Those that seats and others call as the scheduler's own.
local methods = {}
M.methods = methods

-- --------------------------------------------------------------- the queue

--- The call has items to run: it comes last, where it is not there already.
function M.enqueue(self, call)
  if not call.queued then
    self.last = self.last + 1
    self.queue[self.last] = call
    call.queued = true
  end
end

--- The same, but it comes first.
function M.enqueue_first(self, call)
  if not call.queued then
    self.first = self.first - 1
    self.queue[self.first] = call
    call.queued = true
  end
end

-- The first call that has an item to run.
local function next_call(self)
  while self.first <= self.last do
    local call = self.queue[self.first]
    if not call.over and call:peek(1) then
      return call
    end
    self.queue[self.first] = nil
    self.first = self.first + 1
    call.queued = false
  end
end

-- ------------------------------------------------------------------ chunks

-- Items that a worker may still be given before it is replaced.
local function allowance(self, seat)
  return self.maxtasksperchild and self.maxtasksperchild - seat.taken
    or math.maxinteger
end

-- Sends the seat one more chunk; false where there is nothing for it.
local function send_next(self, seat)
  local call = next_call(self)
  local most = allowance(self, seat)
  if not call or most <= 0 or not seat:open() then
    return false
  end
  return seat:send(call, min(sizing.items(call, self.size), most))
end

--- The seat has answered a chunk.
function methods:chunk_over(seat, chunk)
  self.saturated = false
  if chunk.call.timeout then
    self.timed = self.timed - 1
  end
  if seat.handle and not chunk.call.one_by_one then
    local call = chunk.call
    if call.kind == calls.CALL then
      self.per_apply = sizing.measure(seat, self.per_apply)
    else
      call.per_item = sizing.measure(seat, call.per_item)
      call.done_size = max(call.done_size, chunk.n)
    end
  end
  if seat.outstanding == 0 then
    self:seat_idle(seat)
  end
end

--- The seat has nothing to do.
function methods:seat_idle(seat)
  if not seat.idle_at and seat:open() then
    local n = #self.idle + 1
    self.idle[n] = seat
    seat.idle_at = n
  end
end

--- The seat has something to do, or can do nothing any more.
function methods:seat_busy(seat)
  local at, n = seat.idle_at, #self.idle
  if at then
    local last = self.idle[n]
    self.idle[at] = last
    last.idle_at = at
    self.idle[n] = nil
    seat.idle_at = nil
  end
end

-- -------------------------------------------------------------- dispatch

-- Gives one chunk to every idle seat, then a second one to every seat. Of the
-- idle ones that comes first which was busy last: its memory is warm.
local function supply(self)
  while next_call(self) do
    local seat = self.idle[#self.idle]
    if not seat then
      break
    elseif send_next(self, seat) then
      seat:flush()
    else
      self:seat_busy(seat) -- it has done its share
    end
  end
  if not self.saturated and next_call(self) then
    for _, seat in ipairs(self.seats) do
      if seat.outstanding == 1 and send_next(self, seat) then
        seat:flush()
      end
    end
    self.saturated = true
  end
end

--- Fills up one seat that has just answered.
function M.refill(self, seat)
  if not seat:open() then
    return
  end
  -- How deep depends on what it has, so it must have something first.
  if seat.outstanding > 0 or send_next(self, seat) then
    local depth = sizing.depth(seat, self.per_apply)
    while seat.outstanding < depth and send_next(self, seat) do
    end
  end
  seat:flush()
end

-- Are there workers with nothing to do and others with more than one item?
local function lopsided(self)
  local idle = #self.idle
  return idle > 0 and self.items_out > self.size - idle and not next_call(self)
end

--- Sends what can be sent.
function M.send(self)
  supply(self)
  while lopsided(self) do
    if not balance.take_over(self) then
      return supervisor.retire(self)
    end
    supply(self)
  end
  self.restless_at = nil
  supervisor.retire(self)
end

M.next_call = next_call

return M
