-- SPDX-License-Identifier: MIT

--- A pool of worker processes, in the shape of `multiprocessing.Pool`.
--
--    local pool <close> = luapool.Pool()
--    local squares = pool:map(function(x) return x * x end, { 1, 2, 3 })
--
-- A function `f` is a function, a callable table, or a name "module.function".
-- `items` is a list (with `n` where it has holes) or an iterator function.
-- Every call takes `opts`, a table; a plain number in its place is `chunksize`.
--
-- Options of the calls: `chunksize` (items a message; default: by measured task
-- time), `timeout` (seconds a task may run), `deadline` (seconds the whole call
-- may take), `retries` (of tasks whose worker was lost), `on_error` ("raise" or
-- "collect": results, errors), `progress`; of the async ones also `callback`
-- and `error_callback`; of the imaps `buffersize`.
-- @module luapool.pool

local host = require "luapool.host"
local calls = require "luapool.call"
local errors = require "luapool.error"
local inline = require "luapool.inline"
local limits = require "luapool.limits"
local options = require "luapool.options"
local registry = require "luapool.registry"
local request = require "luapool.request"
local scheduler = require "luapool.scheduler"
local supervisor = require "luapool.supervisor"
local worker = require "luapool.worker"

local check, pack, unpack = options.check, table.pack, table.unpack

local SYNC, ASYNC = request.sync_options, request.async_options

local M = {}

--- @type Pool
local Pool = { __name = "luapool.Pool", __luapool = "pool" }
local methods = {}
Pool.__index = methods
M.Pool = Pool

-- ---------------------------------------------------------------- making one

local pool_options = {
  processes = check.count,
  [1] = check.count,
  initializer = check["function"],
  initargs = check.table,
  maxtasksperchild = check.positive,
  start_method = options.one_of("fork", "spawn"),
  timeout = check.seconds,
  retries = check.count,
  seed = check.integer,
  max_restarts = check.count,
}

-- One worker per usable CPU; inside a worker, its share of them.
local function default_size()
  return math.max(1, host.cpu_count() // (worker.size or 1))
end

local function start(o)
  local initargs = o.initargs or {}
  local size = o.processes or o[1] or default_size()
  return (size == 0 and inline or scheduler).new {
    size = math.tointeger(size),
    start_method = o.start_method or "fork",
    initializer = o.initializer,
    initargs = pack(unpack(initargs, 1, initargs.n or #initargs)),
    maxtasksperchild = o.maxtasksperchild,
    max_restarts = o.max_restarts or 10,
    registered = registry.since,
    state = "open",
  }
end

--- Makes a pool. Its workers are forked here and now.
-- @param o number of processes, or a table: processes (or [1]), initializer,
--   initargs, maxtasksperchild, start_method ("fork" or "spawn"), timeout
--   (seconds), retries, seed, max_restarts
-- @treturn Pool
-- @raise kind `broken` where no worker can be started
function M.new(o)
  if type(o) == "number" then
    o = { processes = options.argument(3, 1, "Pool", o, check.count) }
  end
  o = options.options(3, 1, "Pool", o, pool_options)
  local s = start(o)
  local self = setmetatable({
    scheduler = s,
    timeout = o.timeout,
    retries = o.retries,
    seed = o.seed and math.tointeger(o.seed),
    calls = 0,
    plain = not (o.timeout or o.retries or o.seed), -- no options of its own
    scope = {}, -- of the next apply
  }, Pool)
  s.pool = self -- whoever holds a future of it holds the pool
  return self
end

-- ------------------------------------------------------------------ the calls

local function settled(future)
  return future.state ~= "pending"
end

-- The result of a call that nobody else can wait for: interrupted, it ends.
local function wait_for(future)
  local s = future.scheduler
  future.seen = true
  s:seen_failure(future) -- it may have come already
  if not settled(future) then
    local ok, e = pcall(s.run_until, s, settled, future)
    if not ok then
      if s:owned() and not settled(future) then
        s:cancel(future.call)
      end
      error(e, 0)
    end
  end
  if future.error then
    error(future.error, 0)
  end
  return unpack(future.values, 1, future.values.n)
end

-- The calls, with the pool in front. Each stands behind exactly one function
-- that a user calls (a method here, a function of the module): the levels of
-- the errors of wrong use count on that.
local impl = {}
M.impl = impl

function impl.map(self, f, items, opts)
  return wait_for((request.map(self, "map", calls.MAP, SYNC, f, items, opts)))
end

function impl.map_async(self, f, items, opts)
  local future = request.map(self, "map_async", calls.MAP, ASYNC,
    f, items, opts)
  return future
end

function impl.starmap(self, f, items, opts)
  return wait_for(
    (request.map(self, "starmap", calls.STAR, SYNC, f, items, opts)))
end

function impl.starmap_async(self, f, items, opts)
  local future = request.map(self, "starmap_async", calls.STAR, ASYNC,
    f, items, opts)
  return future
end

local NONE = {}

local function apply(self, f, args, opts, done, ...)
  if done then
    return ...
  elseif done == nil then
    return wait_for((...))
  end
  return wait_for((request.apply(self, "apply", SYNC, f, args, opts)))
end

local function quick(self, f, args, opts)
  if opts ~= nil then
    return false
  end
  return request.quick_apply(self, f, args or NONE)
end

function impl.apply(self, f, args, opts)
  return apply(self, f, args, opts,
    quick(self, f, args, opts))
end

function impl.apply_async(self, f, args, opts)
  local future = request.apply(self, "apply_async", ASYNC, f, args, opts)
  return future
end

function impl.imap(self, f, items, opts)
  local it, _, _, closing = request.imap(self, "imap", true, f, items, opts)
  return it, nil, nil, closing
end

function impl.imap_unordered(self, f, items, opts)
  local it, _, _, closing = request.imap(self, "imap_unordered", false, f,
    items, opts)
  return it, nil, nil, closing
end

-- Hands values on, so that the call before is no tail call, which would take
-- a level out of the stack.
local function values(...)
  return ...
end

--- Stands behind a function that a user calls.
M.values = values

--- Runs f with each of these arguments, waits for it.
-- @return all that `f(table.unpack(args, 1, args.n or #args))` returns
-- @raise `luapool.Error`
function methods:apply(f, args, opts)
  return values(impl.apply(self, f, args, opts))
end

--- As apply, without waiting.
-- @treturn luapool.future.Future
function methods:apply_async(f, args, opts)
  return values(impl.apply_async(self, f, args, opts))
end

--- The first value of f(item) for each item, in the order of the items.
-- @treturn table a list; it has `n` only where a result is nil
-- @raise the `luapool.Error` of the lowest failing index
function methods:map(f, items, opts)
  return values(impl.map(self, f, items, opts))
end

--- As map, without waiting.
-- @treturn luapool.future.Future whose get returns the list
function methods:map_async(f, items, opts)
  return values(impl.map_async(self, f, items, opts))
end

--- As map; each item is an argument list.
function methods:starmap(f, argslist, opts)
  return values(impl.starmap(self, f, argslist, opts))
end

--- As starmap, without waiting.
function methods:starmap_async(f, argslist, opts)
  return values(impl.starmap_async(self, f, argslist, opts))
end

--- `for i, v in pool:imap(f, items) do`: results in order, read lazily.
function methods:imap(f, items, opts)
  return values(impl.imap(self, f, items, opts))
end

--- As imap, in the order of completion; i is the item's index.
function methods:imap_unordered(f, items, opts)
  return values(impl.imap_unordered(self, f, items, opts))
end

-- ------------------------------------------------------------------- ending

local function report_unseen(self)
  local s = self.scheduler
  for f in pairs(s.unseen) do
    io.stderr:write("luapool: a failed call that nobody asked about: ",
      tostring(f.error), "\n")
  end
  s.unseen = {}
end

local function gone(s)
  return supervisor.all_gone(s)
end

local function finish(self)
  local s = self.scheduler
  s:guard(s.stop_all, errors.new("closed", "the pool has ended"))
  s:settle()
  s.poller:close()
  s.state = "ended"
  report_unseen(self)
end

--- No more tasks. Returns at once; idempotent.
function methods:close()
  local s = self.scheduler
  if s:owned() and s.state == "open" then
    s.state = "closed"
    s:dispatch() -- lets workers go
  end
end

local function join(self, timeout)
  local s = self.scheduler
  if s.state == "ended" or not s:owned() then
    return
  end
  s.joining = true
  s:dispatch()
  local function over()
    return s:drained() and gone(s)
  end
  if not over() and not s:run_until(over, nil, timeout) then
    errors.raise("timeout",
      ("the pool has not ended within %g s"):format(timeout))
  end
  finish(self)
end

--- Waits until every task submitted is done and every worker reaped.
-- @number[opt] timeout seconds
-- @raise a plain string before close; kind `timeout`: it may be called again
function methods:join(timeout)
  options.argument(2, 1, "join", timeout, check.number, true)
  if self.scheduler.state == "open" and self.scheduler:owned() then
    error("the pool is open: close or terminate it before join", 2)
  end
  join(self, timeout)
end

local function end_all(s)
  supervisor.kill_all(s)
  s:stop_all(errors.new("terminated", "the pool was terminated"))
end

--- Ends every worker at once; pending futures fail as `terminated`. Called by a
-- finalizer while the pool is at work, it takes effect once that is done.
function methods:terminate()
  local s = self.scheduler
  if not s:owned() or s.state == "ended" then
    return
  elseif s.inside then
    s.unwanted_pool = s.state ~= "terminated"
    return
  end
  s.state = "terminated"
  s:guard(end_all)
  s:settle()
  finish(self)
end

--- Waits for the running tasks, then replaces every worker by a fresh fork of
-- this process as it is now.
-- @raise kind `terminated` where it was terminated meanwhile
function methods:restart()
  request.usable(self)
  if self.scheduler.inside then
    error("the pool is at work: a finalizer cannot restart it", 2)
  end
  supervisor.restart(self.scheduler)
end

--- Makes progress: takes results in, sends work out, runs callbacks.
-- @number[opt=0] timeout seconds to wait for something to happen
function methods:poll(timeout)
  options.argument(2, 1, "poll", timeout, check.number, true)
  local s = self.scheduler
  if s:owned() and s.state ~= "ended" then
    s:step(limits.within(math.max(0, timeout or 0)))
    if timeout and timeout > 0 and limits.time_is_up() and not s:drained() then
      limits.raise_time_is_up { s }
    end
  end
end

--- A descriptor that is readable when poll has something to do.
-- @treturn integer
function methods:fileno()
  self.scheduler:check_owned()
  return self.scheduler:fileno()
end

-- ------------------------------------------------------------------ looking

--- What the workers have done.
-- @treturn table a list, one table a worker: pid, tasks, busy (seconds),
--   bytes_in, bytes_out, restarts; their totals beside it
function methods:stats()
  self.scheduler:check_owned()
  local s = self.scheduler
  local all = { tasks = s.tasks or 0, busy = s.busy or 0, bytes_in = 0,
    bytes_out = 0, restarts = 0 }
  for i, seat in ipairs(s.seats) do
    all[i] = seat:stats()
    for name, total in pairs(all) do
      if type(name) == "string" then
        all[name] = total + all[i][name]
      end
    end
  end
  return all
end

function Pool:__len()
  return self.scheduler.size
end

function Pool:__tostring()
  local s = self.scheduler
  local state = not s:owned() and "closed" or s.broken and "broken" or s.state
  return ("luapool.Pool (%s, %d workers)"):format(
    state == "ended" and "terminated" or state, s.size)
end

--- Leaving the scope closes and joins; by an error, terminates.
function Pool:__close(e)
  if not self.scheduler:owned() then
    return
  elseif e ~= nil then
    return self:terminate()
  end
  self:close()
  join(self)
end

function Pool:__gc()
  self:terminate()
end

options.guard_methods(Pool, methods)

return M
