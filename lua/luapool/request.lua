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

-- Refuses a pool that takes no more calls.
function M.usable(self)
  local s = self.scheduler
  s:check_owned()
  if s.broken then
    error(errors.copy(s.broken), 0)
  elseif s.state ~= "open" then
    errors.raise("closed", "the pool is " .. s.state)
  end
end

-- What all calls have in common. The level is that of the caller's caller.
local function new_call(self, level, name, f, opts, known)
  local task, given = options.task(level + 1, 1, name, f)
  opts = call_opts(level + 1, name, opts, known)
  M.usable(self)
  self.calls = self.calls + 1
  return {
    f = task,
    name = given or registry.name_of(task),
    timeout = self.scheduler.size > 0 and (opts.timeout or self.timeout) or nil,
    retries = opts.retries or self.retries,
    chunksize = opts.chunksize and math.tointeger(opts.chunksize),
    on_error = opts.on_error,
    deadline = opts.deadline,
    deadline_at = opts.deadline and host.clock() + opts.deadline,
    seed = self.seed,
    nth = self.calls,
    options = opts,
  }
end

local function submit(self, fields)
  local s = self.scheduler
  local call = calls.new(s, fields)
  call.future.callback = fields.options.callback
  call.future.error_callback = fields.options.error_callback
  s:submit(call)
  return call.future
end

-- Gives the call's function its bytes, which go to each worker once.
local function encode_function(self, fields)
  local s = self.scheduler
  fields.scope = {}
  if s.size == 0 then
    return
  end
  local bytes, message = host.pack(s.session, fields.scope, "f", false,
    fields.f)
  if not bytes then
    errors.raise("encode", message, { name = fields.name })
  end
  fields.bytes = bytes
end

-- The function and its arguments as one message, so that what they share stays
-- shared. Where that fails it says which of them cannot travel.
local function encode_apply(self, fields, args, n)
  local s, message = self.scheduler, nil
  local scope = {}
  fields.scope = scope
  if s.size > 0 then
    fields.bytes = host.pack(s.session, scope, "args", true, fields.f,
      unpack(args, 1, n))
    if not fields.bytes then
      message = select(2, host.pack(s.session, nil, "f", false, fields.f))
    end
  else
    fields.bytes = host.pack(s.session, scope, "args", true,
      unpack(args, 1, n))
  end
  if not fields.bytes then
    if type(message) ~= "string" then
      message = select(2, host.pack(s.session, nil, "args", true,
        unpack(args, 1, n)))
    end
    errors.raise("encode", message, { name = fields.name })
  end
end

-- ------------------------------------------------------------------- items

local function list_of(items)
  local n = rawget(items, "n")
  n = math.type(n) == "integer" and n >= 0 and n or #items
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

function M.map(self, name, kind, known, f, items, opts)
  local fields = new_call(self, 4, name, f, opts, known)
  fields.kind = kind
  fields.items, fields.n = all_items(4, name, items, kind)
  encode_function(self, fields)
  return submit(self, fields)
end

function M.apply(self, name, known, f, args, opts)
  options.argument(4, 2, name, args, check.table, true)
  args = args or {}
  local fields = new_call(self, 4, name, f, opts, known)
  fields.kind, fields.n = calls.CALL, 1
  encode_apply(self, fields, args, args.n or #args)
  return submit(self, fields)
end

-- A source that is a list, one item at a time.
local function list_reader(items)
  local list, n = list_of(items)
  local i = 0
  return function()
    i = i + 1
    return i <= n, list[i]
  end
end

local function iterator_reader(source, kind)
  local i = 0
  return function()
    local item = source()
    if item == nil then
      return false
    end
    i = i + 1
    if kind == calls.STAR and type(item) ~= "table" then
      error(("item %d of the source is no table"):format(i), 0)
    end
    return true, item
  end
end

function M.imap(self, name, ordered, f, items, opts)
  local fields = new_call(self, 4, name, f, opts, imap_options)
  check_items(4, name, items)
  fields.kind, fields.n = calls.MAP, 0
  fields.items = {}
  fields.open_ended = true
  fields.growth = 2
  encode_function(self, fields)
  local read = type(items) == "table" and list_reader(items)
    or iterator_reader(items, fields.kind)
  local call = calls.new(self.scheduler, fields)
  self.scheduler:submit(call)
  return imap.new(self.scheduler, call, read, ordered,
    fields.options.buffersize)
end

return M
