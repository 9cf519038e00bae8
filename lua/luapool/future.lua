-- SPDX-License-Identifier: MIT

--- The handle of an asynchronous call, with the names of both
-- `multiprocessing.AsyncResult` and `concurrent.futures.Future`.
-- @module luapool.future

local host = require "luapool.host"
local errors = require "luapool.error"
local limits = require "luapool.limits"
local options = require "luapool.options"

local unpack = table.unpack

--- @type Future
local Future = { __name = "luapool.Future", __luapool = "future" }
Future.__index = Future

local M = { Future = Future }

-- States, in the words of concurrent.futures.
local PENDING, FINISHED, FAILED, CANCELLED =
  "pending", "finished", "failed", "cancelled"

--- Makes a pending future.
-- @param scheduler what makes progress: has step, owns, cancel, running
-- @param call what it is the result of
-- @treturn Future
function M.new(scheduler, call)
  return setmetatable({
    scheduler = scheduler,
    call = call,
    state = PENDING,
    values = nil,
    seen = nil,
  }, Future)
end

local function guarded(what, f, ...)
  local busy = host.busy(false) -- a callback may be interrupted
  local ok, e = xpcall(f, debug.traceback, ...)
  host.busy(busy)
  if not ok then
    io.stderr:write(("luapool: error in %s: %s\n"):format(what, errors.text(e)))
  end
end

local function run_callbacks(self)
  local list = self.done_callbacks
  self.done_callbacks = nil
  for watch in pairs(self.watches or {}) do
    watch.left = watch.left - 1
    watch:notify(self)
  end
  for _, f in ipairs(list or {}) do
    guarded("a done callback", f, self)
  end
end

--- Settles it with values, packed. Callbacks run before it is ready.
function M.finish(self, values)
  if self.callback then
    guarded("a callback", self.callback, unpack(values, 1, values.n))
  end
  self.values = values
  self.state = FINISHED
  self.call = nil
  run_callbacks(self)
end

--- Settles it with an error object.
function M.fail(self, e)
  if self.error_callback and e.kind ~= "cancelled" then
    guarded("an error callback", self.error_callback, e)
    self.seen = true
  end
  self.error = e
  self.state = e.kind == "cancelled" and CANCELLED or FAILED
  self.call = nil
  run_callbacks(self)
  if self.state == FAILED and not self.seen then
    self.scheduler:unseen_failure(self)
  end
end

local function is_settled(self)
  return self.state ~= PENDING
end

-- Whoever looks at the error has been told of it.
local function look(self)
  if not self.seen then
    self.seen = true
    self.scheduler:seen_failure(self)
  end
  return self.error
end

local function check_timeout(name, timeout)
  options.argument(3, 1, name, timeout, options.check.number, true)
end

local function wait(self, timeout)
  return is_settled(self)
    or self.scheduler:run_until(is_settled, self, timeout)
end

local function timed_out(timeout)
  errors.raise("timeout", ("no result within %g s"):format(timeout))
end

local function get(self, timeout)
  if not wait(self, timeout) then
    timed_out(timeout)
  elseif self.state ~= FINISHED then
    error(look(self), 0)
  end
  return unpack(self.values, 1, self.values.n)
end

--- The result, waiting for it.
-- @number[opt] timeout seconds; 0 or less looks once
-- @return all values of apply_async; the list of map_async (with on_error =
--   "collect": results and errors)
-- @raise the task's `Error`, again at every call; kind `timeout`
function Future:get(timeout)
  check_timeout("get", timeout)
  return get(self, timeout)
end

--- The same as get.
function Future:result(timeout)
  check_timeout("result", timeout)
  return get(self, timeout)
end

--- Waits until it is ready.
-- @number[opt] timeout seconds
-- @treturn boolean whether it is
function Future:wait(timeout)
  check_timeout("wait", timeout)
  return wait(self, timeout)
end

--- Whether it has a result, an error or was cancelled. Never waits.
-- @treturn boolean
function Future:ready()
  if not is_settled(self) and self.scheduler:owned() then
    self.scheduler:step(0)
  end
  return is_settled(self)
end
Future.done = Future.ready

--- Whether a worker is at it.
-- @treturn boolean
function Future:running()
  if self:ready() then
    return false
  end
  return self.scheduler:is_running(self.call)
end

--- Whether it ended without an error.
-- @treturn boolean
-- @raise a plain string while it is pending
function Future:successful()
  if not self:ready() then
    error("the future is not ready", 2)
  end
  return self.state == FINISHED
end

--- The error it ended with, waiting for the end.
-- @number[opt] timeout seconds
-- @treturn Error|nil
-- @raise kind `timeout`, `cancelled`
function Future:exception(timeout)
  check_timeout("exception", timeout)
  if not wait(self, timeout) then
    timed_out(timeout)
  elseif self.state == CANCELLED then
    error(look(self), 0)
  elseif self.state == FAILED then
    return look(self)
  end
end

--- Sees to it that the call does not complete: what has not started is
-- dropped, what runs is killed.
-- @treturn boolean false where it is already settled
function Future:cancel()
  if self:ready() then
    return self.state == CANCELLED
  end
  self.scheduler:check_owned()
  self.scheduler:cancel(self.call)
  return self.state == CANCELLED
end

--- @treturn boolean
function Future:cancelled()
  return self.state == CANCELLED
end

--- Calls `fn(future)` once it is settled; at once where it is.
function Future:add_done_callback(fn)
  options.argument(2, 1, "add_done_callback", fn, options.check["function"])
  if is_settled(self) then
    return guarded("a done callback", fn, self)
  end
  self.done_callbacks = self.done_callbacks or {}
  table.insert(self.done_callbacks, fn)
end

function Future:__tostring()
  return ("luapool.Future (%s)"):format(self.state)
end

options.guard_methods(Future, Future)

-- ------------------------------------------------- several futures at once

local function check_futures(name, futures)
  options.argument(3, 1, name, futures, options.check.table)
  for i, f in ipairs(futures) do
    if getmetatable(f) ~= Future then
      options.bad(3, 1, name,
        ("a future expected at [%d], got %s"):format(i, type(f)))
    end
  end
end

-- A watch counts what it watches as it settles, so that no step looks at every
-- future again.
local Watch = {}
Watch.__index = Watch

local function watch(futures)
  local self = setmetatable(
    { left = 0, settled = {}, failed = false, schedulers = {} }, Watch)
  local seen = {}
  for _, f in ipairs(futures) do
    if not seen[f] then
      seen[f] = true
      self:add(f)
    end
  end
  return self
end

-- Nothing is allocated, so no finalizer runs, between the look at the future
-- and the entry that makes it tell.
function Watch:add(f)
  local s = f.scheduler
  f.watches = f.watches or {}
  if is_settled(f) then
    return self:notify(f)
  end
  self.left = self.left + 1
  f.watches[self] = true
  if not self.schedulers[s] then
    self.schedulers[s] = true
    table.insert(self.schedulers, s)
  end
end

function Watch:notify(f)
  table.insert(self.settled, f)
  self.failed = self.failed or f.state == FAILED
end

function Watch:stop(futures)
  for _, f in ipairs(futures) do
    if f.watches then
      f.watches[self] = nil
    end
  end
end

-- Those that have not ended: nothing is to come from the others.
function Watch:working()
  local list = {}
  for _, s in ipairs(self.schedulers) do
    if s.inside then
      error("the pool is at work: a finalizer cannot wait for it", 0)
    elseif s.state ~= "ended" then
      table.insert(list, s)
    end
  end
  return list
end

-- The seconds until one of them has to do something, at most so many.
local function pause(list, seconds)
  for _, s in ipairs(list) do
    local at = s:next_timer()
    local due = at and at - host.clock()
    if due and (not seconds or due < seconds) then
      seconds = due
    end
  end
  return seconds
end

local function wait_for_any(self, enough, list, seconds)
  local fds = {}
  for _, s in ipairs(list) do
    table.insert(fds, s:fileno())
  end
  if enough(self) then -- a finalizer has come before us
    return true
  end
  return host.poll(fds, pause(list, seconds))
end

-- The doors of all are shut while it waits: see Scheduler:guard.
local function behind_doors(list, f, ...)
  for _, s in ipairs(list) do
    s.inside = true
  end
  host.busy(true)
  local ok, ready, frozen = pcall(f, ...)
  host.busy(false)
  for _, s in ipairs(list) do
    s:open_door()
  end
  if not ok then
    error(ready, 0)
  end
  return ready, frozen
end

-- One step of all the schedulers, which waits for `seconds` at most; not where
-- it is enough before.
function Watch:step(seconds, enough)
  local list = self:working()
  if #list == 1 then
    return list[1]:step(seconds, enough, self)
  end
  local ready, frozen = behind_doors(list, wait_for_any, self, enough, list,
    seconds)
  if ready == nil then
    list[1]:interrupted()
  elseif frozen then
    list[1]:thaw(frozen)
  end
  for _, s in ipairs(list) do
    s:step(0)
  end
end

-- Steps until enough(self) or the limit, a time; whether it was enough.
function Watch:run(enough, limit)
  while not enough(self) do
    self:step(limits.within(limit and limit - host.clock()), enough)
    if limit and host.clock() >= limit then
      return enough(self)
    elseif limits.time_is_up() and not enough(self) then
      limits.raise_time_is_up(self.schedulers)
    end
  end
  return true
end

local enough = {}

function enough.ALL_COMPLETED(w)
  return w.left == 0
end

function enough.FIRST_COMPLETED(w)
  return w.left == 0 or w.settled[1] ~= nil
end

function enough.FIRST_EXCEPTION(w)
  return w.left == 0 or w.failed
end

local wait_options = {
  timeout = options.check.number,
  return_when = options.one_of(
    "ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"),
}

--- Waits for futures, of any pools.
-- @tparam {Future,...} futures
-- @tparam[opt] table opts timeout (seconds), return_when ("ALL_COMPLETED",
--   "FIRST_COMPLETED", "FIRST_EXCEPTION")
-- @return the list of those that are done, the list of the others
function M.wait(futures, opts)
  check_futures("wait", futures)
  opts = options.options(2, 2, "wait", opts, wait_options)
  local limit = opts.timeout and host.clock() + opts.timeout
  local w = watch(futures)
  w:run(enough[opts.return_when or "ALL_COMPLETED"], limit)
  w:stop(futures)
  local done, not_done = {}, {}
  for _, f in ipairs(futures) do
    table.insert(is_settled(f) and done or not_done, f)
  end
  return done, not_done
end

--- An iterator over futures in the order in which they are done.
-- @tparam {Future,...} futures
-- @number[opt] timeout seconds for all of them
-- @raise kind `timeout`
function M.as_completed(futures, timeout)
  check_futures("as_completed", futures)
  options.argument(2, 2, "as_completed", timeout, options.check.number, true)
  local limit = timeout and host.clock() + timeout
  local w = watch(futures)
  local handed = 0
  local function next_is_there()
    return w.left == 0 or w.settled[handed + 1] ~= nil
  end
  return function()
    if not w:run(next_is_there, limit) then
      timed_out(timeout)
    end
    handed = handed + 1
    return w.settled[handed]
  end
end

return M
