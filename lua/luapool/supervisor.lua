-- SPDX-License-Identifier: MIT
-- The life of a pool's workers: starting, replacing those that die or have done
-- their share, giving up where nothing but deaths happens, ending all.

local host = require "luapool.host"
local errors = require "luapool.error"

local clock = host.clock

-- Seconds before the first retry of a replacement that could not be made, or
-- that follows several deaths in a row; doubled each time.
local BACKOFF, BACKOFF_MOST = 0.001, 1
-- Deaths in a row that are replaced at once.
local AT_ONCE = 3

local M = {}

-- The oldest living worker decides what the others can be assumed to know.
local function update_view(self)
  local oldest
  for _, seat in ipairs(self.seats) do
    if seat.handle and (not oldest or seat.serial < oldest.serial) then
      oldest = seat
    end
  end
  if oldest and oldest.view ~= self.view then
    self.view = oldest.view
    self.session:view(oldest.view)
  end
end

local function snapshot(self)
  return self.session:snapshot(self.start_method)
end

local function seated(self, seat)
  self.saturated = false
  self:seat_idle(seat)
end

--- Starts all workers at once. Where one cannot be started none stays.
function M.start(self)
  self.deaths, self.waiting = 0, 0
  local view = snapshot(self)
  for _, seat in ipairs(self.seats) do
    local ok, message = seat:start(view)
    if not ok then
      M.kill_all(self)
      self.poller:close()
      errors.raise("broken", message)
    end
    seated(self, seat)
  end
  update_view(self)
end

-- ---------------------------------------------------------------- replacing

local function backoff(tries)
  return math.min(BACKOFF * 2 ^ tries, BACKOFF_MOST)
end

--- Seconds to wait before a process is replaced after so many deaths in a row.
function M.pause(deaths)
  return deaths > AT_ONCE and backoff(deaths - AT_ONCE) or 0
end

local function break_pool(self, message)
  self.broken = errors.new("broken", message)
  self:stop_all(self.broken)
end

--- The scheduler has failed half-way: every worker ends, and every call.
function M.break_down(self, message)
  if self.broken then
    return
  end
  break_pool(self, "luapool itself failed: " .. message)
  M.kill_all(self)
end

-- Deaths in a row that stand against the seat's next process. Those of idle
-- workers are no task's doing: they count for their seat alone, so that all of
-- a large pool may be killed at once.
local function deaths_of(self, seat)
  return math.max(self.deaths, seat.idle_deaths)
end

-- Too many in a row: whatever the tasks do, it is not going to work.
local function count_death(self, seat, death)
  if death.idle then
    seat.idle_deaths = seat.idle_deaths + 1
  else
    self.deaths = self.deaths + 1
  end
  local n = deaths_of(self, seat)
  if n > self.max_restarts then
    break_pool(self, ("%d workers died in a row with no task completed "
      .. "between; the last: %s"):format(n, death.text))
  end
end

local function start_later(self, seat, seconds)
  seat.start_at = clock() + seconds
  self.waiting = self.waiting + 1
end

local function living(self)
  for _, seat in ipairs(self.seats) do
    if seat.handle then
      return true
    end
  end
  return false
end

-- A fork that fails is tried again: memory or a process slot may come free.
local function start_failed(self, seat, message)
  seat.failures = (seat.failures or 0) + 1
  if not living(self) and seat.failures > self.max_restarts then
    break_pool(self, message)
    return
  end
  start_later(self, seat, backoff(seat.failures))
end

local function start_or_wait(self, seat, view)
  local ok, message = seat:start(view)
  if not ok then
    return start_failed(self, seat, message)
  end
  seat.failures = nil
  seat.restarts = seat.restarts + 1
  seated(self, seat)
end

local function restart(self, seat)
  start_or_wait(self, seat, snapshot(self))
  update_view(self)
end

local function replace(self, seat)
  local pause = M.pause(deaths_of(self, seat))
  if pause > 0 then
    return start_later(self, seat, pause)
  end
  restart(self, seat)
end

-- Is all done that a closed pool had to do? Until somebody joins, an iterator
-- may go on reading.
local function finished(self)
  return self.state == "closed"
    and (next(self.calls) == nil or self.joining and self:drained())
end

-- Nothing will be left to do for a new worker.
local function no_more_work(self)
  return self.broken or self.state == "terminated" or finished(self)
end

-- Whose fault was it?
local function judge(self, seat, death)
  local ours = death.retired or death.doom and death.doom.error
  if self.broken or ours then
    return
  elseif not death.ready then
    self:fail_start(errors.new("init", death.text .. " in its initializer", {
      pid = death.pid, signal = death.signal, exitcode = death.exitcode,
    }))
  else
    count_death(self, seat, death)
  end
end

--- The process of a seat has ended.
function M.ended(self, seat)
  judge(self, seat, seat:ended())
  if not self.restarting and not no_more_work(self) then
    replace(self, seat)
  end
end

--- When a replacement is due.
function M.next_timer(self)
  if self.waiting == 0 then
    return nil
  end
  local at
  for _, seat in ipairs(self.seats) do
    at = seat.start_at and math.min(at or math.huge, seat.start_at) or at
  end
  return at
end

--- Starts the replacements that are due.
function M.expire(self)
  if self.waiting == 0 then
    return
  end
  local now = clock()
  for _, seat in ipairs(self.seats) do
    if seat.start_at and seat.start_at <= now then
      seat.start_at = nil
      self.waiting = self.waiting - 1
      if not no_more_work(self) then
        restart(self, seat)
      end
    end
  end
end

--- Makes the replacements due that wait for their turn.
function M.hurry(self)
  for _, seat in ipairs(self.seats) do
    seat.start_at = seat.start_at and clock()
  end
end

--- Lets workers go that have done their share, or have nothing to come.
function M.retire(self)
  local over = finished(self)
  if not (over or self.maxtasksperchild) then
    return
  end
  for _, seat in ipairs(self.seats) do
    if seat:open() and seat.outstanding == 0
      and (over or seat.taken >= self.maxtasksperchild) then
      seat:retire()
    end
  end
end

-- ------------------------------------------------------------------- ending

--- Has every worker been reaped?
function M.all_gone(self)
  return not living(self)
end

--- Kills every worker and reaps it: TERM, the grace, KILL.
function M.kill_all(self)
  for _, seat in ipairs(self.seats) do
    if seat.handle then
      seat.handle:kill(15)
    end
  end
  for _, seat in ipairs(self.seats) do
    if seat.handle then
      self.poller:remove(seat.handle, seat.number)
      seat.handle:terminate(self.grace)
      seat:keep_figures()
      seat.handle:close()
      seat.handle = nil
    end
  end
end

local function nothing_runs(self)
  for _, seat in ipairs(self.seats) do
    if seat.handle and seat.outstanding > 0 then
      return false
    end
  end
  return true
end

-- What they have not started is taken back.
local function take_back(self)
  for _, seat in ipairs(self.seats) do
    if seat.start_at then
      seat.start_at = nil
      self.waiting = self.waiting - 1
    end
    if seat:open() then
      seat:revoke_all()
      seat.retiring = true
      self:seat_busy(seat)
    end
  end
end

local function let_go(self)
  for _, seat in ipairs(self.seats) do
    if seat.handle and not seat.doom then
      seat:retire()
    end
  end
end

-- Until every worker has ended.
local function retire_all(self)
  self:guard(take_back)
  self:run_until(nothing_runs, self)
  self:guard(let_go)
  self:run_until(M.all_gone, self)
end

-- Seats are taken again: by a new worker where there is none, by the old one
-- where it was not told to end yet.
local function reopen(self)
  local view
  for _, seat in ipairs(self.seats) do
    if not seat.handle then
      view = view or snapshot(self)
      start_or_wait(self, seat, view)
    elseif not seat.told then
      seat.retiring = nil
      if seat.outstanding == 0 then
        self:seat_idle(seat)
      end
    end
  end
  update_view(self)
end

--- Replaces every worker by a fork of this process as it is now, once what they
-- run is done. What they have not started is run by the new ones.
-- @raise kind `terminated` where the pool was terminated meanwhile
function M.restart(self)
  self.restarting = true
  local ok, e = pcall(retire_all, self)
  self.restarting = nil
  if self.state == "terminated" or self.state == "ended" then
    errors.raise("terminated", "the pool was terminated")
  end
  self:guard(reopen)
  self:dispatch()
  if not ok then
    error(e, 0)
  end
end

return M
