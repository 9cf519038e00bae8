-- SPDX-License-Identifier: MIT
-- The scheduler of a pool without workers (processes = 0): every call runs in
-- this process, one item a step. Arguments and results pass through the codec,
-- so that what would fail between processes fails here as well.

local host = require "luapool.host"
local errors = require "luapool.error"
local calls = require "luapool.call"
local limits = require "luapool.limits"
local scheduler = require "luapool.scheduler"

local Inline = setmetatable({}, { __index = scheduler.Scheduler })
Inline.__index = Inline

local M = {}

function M.new(o)
  local self = setmetatable(scheduler.new(o), Inline)
  self.tasks, self.busy = 0, 0
  if o.initializer then
    local args = o.initargs
    local ok, e = xpcall(o.initializer, errors.capture,
      table.unpack(args, 1, args.n))
    if not ok then
      local message, traceback, value = errors.captured(e)
      self.broken = errors.new("init", message,
        { traceback = traceback, value = value })
    end
  end
  return self
end

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
  local values = table.pack(xpcall(call.f, errors.capture,
    table.unpack(args, 1, args.n)))
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
  local text, traceback, value = errors.captured(values[2])
  self:item_failed(call, index, errors.new("task", text,
    { traceback = traceback, value = value }))
end

--- Runs one item. There is nothing to wait for.
function Inline:step()
  self:check_owned()
  local call = scheduler.next_call(self)
  if call then
    run_item(self, call)
  end
  limits.expire(self)
  self:settle()
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
  return scheduler.next_call(self) and host.clock() or nil
end

return M
