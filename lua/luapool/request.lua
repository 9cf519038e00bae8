-- SPDX-License-Identifier: MIT
-- From what a user hands to a call of a pool to a call that the scheduler
-- takes: options, function, items and arguments are checked and encoded here.
-- Levels are those of `error`: pool.lua calls these functions from `impl`, one
-- function below the one that the user called.

local host = require "luapool.host"
local calls = require "luapool.call"
local errors = require "luapool.error"
local imap = require "luapool.imap"
local options = require "luapool.options"
local registry = require "luapool.registry"

local check, unpack = options.check, table.unpack

local M = {}

local NONE = {}
-- Above it Lua's stack ends.
local MOST_ARGUMENTS = 900000

M.sync_options = {
  chunksize = check.positive,
  timeout = check.seconds,
  deadline = check.seconds,
  retries = check.count,
  on_error = options.one_of("raise", "collect"),
  progress = function(v)
    local t = type(v)
    if t ~= "boolean" and t ~= "string" and not options.callable(v) then
      return "boolean, label or function expected, got " .. t
    end
  end,
}

local function extended(more)
  for k, v in pairs(M.sync_options) do
    more[k] = v
  end
  return more
end

M.async_options = extended {
  callback = check["function"],
  error_callback = check["function"],
}
local imap_options = extended { buffersize = check.positive }

local function call_opts(level, name, opts, known)
  if type(opts) == "number" then
    opts = { chunksize = opts }
  end
  opts = options.options(level + 1, 3, name, opts, known)
  return opts
end

-- The pool itself: the default pool comes as the function that makes it, so
-- that a misused call makes none. Refuses a pool that takes no more calls.
function M.usable(self)
  if type(self) == "function" then
    self = self()
  end
  local s = self.scheduler
  s:check_owned()
  if s.broken then
    error(errors.copy(s.broken), 0)
  elseif s.state ~= "open" then
    errors.raise("closed", "the pool is " .. s.state)
  end
  return self
end

-- What an option of the call, or else of the pool, says.
local function set_options(self, call, opts)
  call.timeout = self.scheduler.size > 0 and (opts.timeout or self.timeout)
    or nil
  call.retries = opts.retries or self.retries
  call.seed = self.seed
  call.nth = self.calls
  if opts.chunksize then
    call.chunksize = math.tointeger(opts.chunksize)
  end
  call.on_error = opts.on_error
  if opts.deadline then
    call.deadline = opts.deadline
    call.deadline_at = host.clock() + opts.deadline
  end
end

local function submit(self, call, opts)
  local future = call.future
  future.callback = opts.callback
  future.error_callback = opts.error_callback
  self.scheduler:submit(call)
  return future
end

-- Gives the call's function its bytes, which go to each worker once.
local function encode_function(self, call)
  local s = self.scheduler
  call.scope = {}
  if s.size == 0 then
    return
  end
  local bytes, message = host.pack(s.session, call.scope, "f", false, call.f)
  if not bytes then
    errors.raise("encode", message, { name = registry.name_of(call.f) })
  end
  call.bytes = bytes
end

-- The one value among an apply's that cannot travel: first the function.
local function blame(self, f, args, n)
  local session = self.scheduler.session
  local _, message = host.pack(session, nil, "f", false, f)
  if not message or self.scheduler.size == 0 then
    _, message = host.pack(session, nil, "args", true, unpack(args, 1, n))
  end
  errors.raise("encode", message, { name = registry.name_of(f) })
end

-- The function and its arguments as one message, so that what they share stays
-- shared. The scope holds the classes among them until the result is there;
-- there seldom are any, so that one table serves until then.
local function encode_apply(self, f, args, n)
  local s = self.scheduler
  local scope = self.scope
  local bytes
  if s.size > 0 then
    bytes = host.pack(s.session, scope, "args", true, f, unpack(args, 1, n))
  else
    bytes = host.pack(s.session, scope, "args", true, unpack(args, 1, n))
  end
  if not bytes then
    blame(self, f, args, n)
  elseif next(scope) == nil then
    return bytes
  end
  self.scope = {}
  return bytes, scope
end

-- ------------------------------------------------------------------- items

local function length(items)
  local n = rawget(items, "n")
  return math.type(n) == "integer" and n >= 0 and n or #items
end

-- The list itself where its items can be read raw, else a copy.
local function list_of(items)
  local n = length(items)
  if not getmetatable(items) then
    return items, n
  end
  local list = {}
  for i = 1, n do
    list[i] = items[i]
  end
  return list, n
end

local function read_all(source)
  local list, n = {}, 0
  for item in source do
    n = n + 1
    list[n] = item
  end
  return list, n
end

local function check_items(level, name, items)
  if type(items) ~= "table" and type(items) ~= "function" then
    options.bad(level + 1, 2, name, "table or iterator function expected, got "
      .. (items == nil and "nil" or type(items)))
  end
end

local function check_argument_list(level, name, i, item)
  if type(item) ~= "table" then
    options.bad(level + 1, 2, name,
      ("table expected as items[%d], got %s"):format(i, type(item)))
  end
end

local function all_items(level, name, items, kind)
  check_items(level + 1, name, items)
  local list, n
  if type(items) == "function" then
    list, n = read_all(items)
  else
    list, n = list_of(items)
  end
  if kind == calls.STAR then
    for i = 1, n do
      check_argument_list(level + 1, name, i, list[i])
    end
  end
  return list, n
end

-- ------------------------------------------------------------ the map family

-- May it be the number of an argument list's values?
local function is_length(n)
  return math.type(n) == "integer" and n >= 0 and n <= MOST_ARGUMENTS
end

function M.map(self, name, kind, known, f, items, opts)
  local task, given = options.task(4, 1, name, f)
  opts = call_opts(4, name, opts, known)
  self = M.usable(self)
  self.calls = self.calls + 1
  local call = { f = task, name = given, kind = kind }
  set_options(self, call, opts)
  encode_function(self, call)
  call.items, call.n = all_items(4, name, items, kind)
  M.usable(self) -- the source is the user's, and may have ended the pool
  return submit(self, calls.new(self.scheduler, call), opts)
end

function M.apply(self, name, known, f, args, opts)
  local task, given = options.task(4, 1, name, f)
  options.argument(4, 2, name, args, check.table, true)
  if opts ~= nil then
    opts = call_opts(4, name, opts, known)
  end
  self = M.usable(self)
  self.calls = self.calls + 1
  args = args or NONE
  local n = args.n or #args
  if not is_length(n) then
    options.bad(4, 2, name, "its field 'n' is no number of arguments")
  end
  local bytes, scope = encode_apply(self, task, args, n)
  local call = calls.apply(self.scheduler, task, bytes, given)
  if scope then
    call.scope = scope
  end
  if opts or not self.plain then
    set_options(self, call, opts or NONE)
  end
  return submit(self, call, opts or NONE)
end

local function call_seat(seat, scope, f, args, n)
  return seat:call(scope, f, unpack(args, 1, n))
end

-- What the short way has brought.
local function returned(self, seat, f, args, n, ok, done, ...)
  local scope = self.scope
  if next(scope) then
    self.scope = {}
  end
  if done ~= false then
    host.busy(false)
    self.scheduler:open_door()
  end
  if not ok then
    error(done, 0)
  elseif done then
    return true, ...
  elseif done == nil then
    return false
  end
  local call = calls.apply(self.scheduler, f, nil)
  call.again = function() -- in case that it comes back unstarted
    return (encode_apply(self, f, args, n))
  end
  call.scope = scope
  self.scheduler:adopt(call, seat, (...))
  return nil, call.future
end

--- An apply without options on a pool that does nothing else goes to an idle
-- worker and back without a scheduler.
-- @return true, results; or nil, future: it takes the usual way from here; or
--   false: it is to be tried the usual way
function M.quick_apply(self, f, args)
  if type(f) ~= "function" or type(args) ~= "table" then
    return false
  end
  self = M.usable(self)
  local s = self.scheduler
  if not self.plain then
    return false
  end
  local n = args.n or #args
  if not is_length(n) then
    return false
  end
  local seat = s:quiet_seat()
  if not seat then
    return false
  end
  s.inside = true -- from here on no finalizer may take the seat away
  self.calls = self.calls + 1
  return returned(self, seat, f, args, n,
    pcall(call_seat, seat, self.scope, f, args, n))
end

-- A source that is a list, one item at a time.
local function list_reader(items)
  local i, n = 0, length(items)
  return function()
    i = i + 1
    if i <= n then
      return true, items[i]
    end
    return false
  end
end

local function iterator_reader(source)
  return function()
    local item = source()
    return item ~= nil, item
  end
end

function M.imap(self, name, ordered, f, items, opts)
  local task, given = options.task(4, 1, name, f)
  check_items(4, name, items)
  opts = call_opts(4, name, opts, imap_options)
  self = M.usable(self)
  self.calls = self.calls + 1
  local call = { f = task, name = given, kind = calls.MAP, items = {}, n = 0,
    open_ended = true, growth = 2 }
  set_options(self, call, opts)
  encode_function(self, call)
  local read = type(items) == "table" and list_reader(items)
    or iterator_reader(items)
  call = calls.new(self.scheduler, call)
  self.scheduler:submit(call)
  return imap.new(self.scheduler, call, read, ordered, opts.buffersize)
end

return M
