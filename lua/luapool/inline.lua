-- SPDX-License-Identifier: MIT
-- The scheduler of a pool without workers (processes = 0): every call runs in
-- this process, one item a step. Arguments and results pass through the codec,
-- so that what would fail between processes fails here as well.

local host = require "luapool.host"
local errors = require "luapool.error"
local calls = require "luapool.call"
local dispatch = require "luapool.dispatch"
local limits = require "luapool.limits"
local scheduler = require "luapool.scheduler"
local supervisor = require "luapool.supervisor"

local Inline = setmetatable({}, { __index = scheduler.Scheduler })
Inline.__index = Inline

local M = {}

-- ------------------------------------------------------------- the user's code

-- An interrupt waits (see lib.h) while the scheduler is at work, and not while
-- the user's code runs: from before its first to behind its last instruction.
local function finished(...)
  host.busy(true)
  return ...
end

local function interruptible(f, ...)
  host.busy(false)
  return finished(f(...))
end

local function capture(value)
  host.busy(true)
  return errors.capture(value)
end

-- Calls f with these arguments, a packed list.
-- @return packed: true and the results; or false, and an error of that kind, or
--   of kind `interrupted`
local function attempt(kind, f, args)
  local was = host.busy(true)
  host.raised()
  local values = table.pack(xpcall(interruptible, capture, f,
    table.unpack(args, 1, args.n)))
  host.busy(was)
  if values[1] then
    return values
  end
  local message, traceback, value = errors.captured(values[2])
  if host.raised() or errors.is(value, "interrupted") then
    return { false, errors.new("interrupted", "interrupted!") }
  end
  return { false, errors.new(kind, message,
    { traceback = traceback, value = value }) }
end

function M.new(o)
  local self = setmetatable(scheduler.new(o), Inline)
  self.tasks, self.busy = 0, 0
  local values = o.initializer and attempt("init", o.initializer, o.initargs)
  if values and not values[1] then
    self.broken = values[2]
    if self.broken.kind == "interrupted" then
      self.poller:close()
      self.state = "ended"
      error(self.broken, 0)
    end
  end
  return self
end

-- -------------------------------------------------------------------- one item

local function copy(self, base, each, ...)
  local bytes, message = host.pack(self.session, nil, base, each, ...)
  if not bytes then
    return nil, message
  end
  return table.pack(select(2, host.unpack(self.session, nil, bytes)))
end

local function arguments(self, call, index)
  if call.kind == calls.CALL then
    return table.pack(select(2,
      host.unpack(self.session, nil, call.bytes)))
  end
  local item = call.items[index]
  local base = ("items[%d]"):format(index)
  if call.kind == calls.STAR then
    return copy(self, base, true,
      table.unpack(item, 1, item.n or #item))
  end
  return copy(self, base, false, item)
end

-- With a seed the task draws from its own stream, and the caller's generator is
-- put back.
local function run(call, index, args)
  local kept
  if call.seed then
    kept = host.generator(math.random)
    math.randomseed(host.stream(call.seed, call.nth, index))
  end
  local values = attempt("task", call.f, args)
  if kept then
    host.generator(math.random, kept)
  end
  return values
end

local function succeeded(self, call, index, values)
  local n = call.kind == calls.CALL and values.n or 2
  local results, message = copy(self, "result", n > 2,
    table.unpack(values, 2, n))
  if not results then
    return self:item_failed(call, index, errors.new("encode", message))
  elseif call.kind == calls.CALL then
    return self:values_done(call, results)
  end
  local v = results[1]
  call.results[index] = v == nil and calls.NIL or v
  self:items_done(call, index, 1, v == nil and 1 or 0)
end

-- Returns the error of a task that was interrupted.
local function run_item(self, call)
  local index = call:peek(1)
  call:advance(1)
  local args, message = arguments(self, call, index)
  if not args then
    return self:item_failed(call, index, errors.new("encode", message))
  end
  local begun = host.clock()
  local values = run(call, index, args)
  self.tasks = self.tasks + 1
  self.busy = self.busy + host.clock() - begun
  if values[1] then
    return succeeded(self, call, index, values)
  end
  self:item_failed(call, index, values[2])
  return values[2].kind == "interrupted" and values[2] or nil
end

local function step(self)
  if host.interrupted() then
    errors.raise("interrupted", "interrupted!")
  end
  local call = dispatch.next_call(self)
  local interrupt = call and run_item(self, call)
  limits.expire(self)
  return interrupt
end

--- Runs one item. There is nothing to wait for. (Nothing is `inside` meanwhile:
-- the item may use the pool itself.)
-- @raise kind `closed` in another process, `interrupted`
function Inline:step(_, done, arg)
  self:check_owned()
  local was = host.busy(true)
  local ok, e = pcall(step, self)
  host.busy(was)
  if not ok and not errors.is(e) then
    supervisor.break_down(self, errors.text(e))
  end
  self:settle()
  if e then
    error(e, 0)
  end
  return done and done(arg)
end

--- As Scheduler's; here a step does not wait but runs an item, so that time is
-- looked at before it.
function Inline:run_until(done, arg, timeout)
  if limits.time_is_up() then
    limits.raise_time_is_up { self }
  end
  return scheduler.Scheduler.run_until(self, done, arg, timeout)
end

function Inline:next_timer()
  return dispatch.next_call(self) and host.clock() or nil
end

return M
