-- SPDX-License-Identifier: MIT
-- The worker's side: what a forked child runs from its first line to its last.
-- It receives frames, runs the items of a chunk one after the other under one
-- xpcall, and ends when the parent closes the pipe.

local host = require "luapool.host"
local environment = require "luapool.environment"
local errors = require "luapool.error"

local M = {
  -- Which worker this process is, and of how many; nil outside of workers.
  number = nil,
  size = nil,
}

local MAP, CALL = 0, 2 -- kinds of chunks, as host/frames.h has them

local randomseed = math.randomseed
local capture = errors.capture

local function call(f, ...)
  return f(...)
end

-- `more` and the rest come from link:next or link:step: an item to run, or
-- nothing where the chunk is over.
local function run(link, f, more, ...)
  if more then
    return run(link, f, link:step(f(...)))
  end
end

-- The same for a map, one value in and one out, where the loop itself counts.
local function run_map(link, f, more, item)
  local step = link.step
  while more do
    more, item = step(link, f(item))
  end
end

local function run_seeded(link, f, more, ...)
  if more then
    randomseed(host.stream(link:random()))
    return run_seeded(link, f, link:step(f(...)))
  end
end

local function report(link, kind, e)
  link:fail(kind, errors.captured(e))
end

-- Runs every item of the chunk at hand; a failed one costs only itself.
local function run_chunk(link, f, kind, seeded)
  local loop = seeded and run_seeded or kind == MAP and run_map or run
  local ok, e = xpcall(loop, capture, link, f, link:next())
  while not ok do
    report(link, "task", e)
    ok, e = xpcall(loop, capture, link, f, link:next())
  end
end

-- Stands in for a function that could not be decoded: every item says why.
local function unknown_function(message)
  return function()
    errors.raise("decode", message)
  end
end

local on = {}

function on.chunk(self, id, kind, seeded)
  if kind == CALL then
    self.link:scope {}
    return run_chunk(self.link, call, kind, seeded)
  end
  local known = self.calls[id]
  self.link:scope(known.scope)
  return run_chunk(self.link, known.f, kind, seeded)
end

on["function"] = function(self, id)
  local scope = {}
  self.link:scope(scope)
  local ok, f = self.link:values()
  self.calls[id] = { f = ok and f or unknown_function(f), scope = scope }
end

function on.forget(self, id)
  self.calls[id] = nil
end

function on.define(self, bytes)
  self.session:defined(bytes)
end

-- Pools of this worker's own hear of it in their turn.
function on.environment(_, text)
  local name, value = text:match("^([^=]+)=(.*)$")
  environment.set(name or text, value)
end

-- A failed initializer is reported, and then there is nothing left to do.
local function initialize(self, f, ...)
  local ok, e = xpcall(f, capture, ...)
  if ok then
    return self.link:ready()
  end
  report(self.link, "init", e)
  self.link:flush()
  host.exit(1)
end

function on.init(self)
  self.link:scope {}
  local ok, f, args = self.link:values()
  if not ok then
    f, args = unknown_function(f), {}
  end
  initialize(self, f, table.unpack(args, 1, args.n or #args))
end

local function dispatch(self, what, ...)
  if what then
    on[what](self, ...)
    return true
  end
end

local function exit(code)
  if code == nil or code == true then
    code = 0
  elseif code == false then
    code = 1
  end
  host.exit(math.tointeger(code) or 1)
end

-- In the library that scripts see: `os` may be a copy of this module's own.
local function replace_exit()
  local library = rawget(_G, "os")
  if type(library) == "table" then
    library.exit = exit
  end
end

local function serve(link, session, options)
  local self = { link = link, session = session, calls = {} }
  M.number, M.size = options.number, options.size
  replace_exit()
  randomseed(host.entropy())
  link:session(session)
  if options.initializer then
    local args = options.initargs
    initialize(self, options.initializer, table.unpack(args, 1, args.n))
  end
  while dispatch(self, link:receive()) do -- luacheck: ignore 542
  end
end

--- A forked worker: everything is inherited.
-- @param link its end of the pipes
-- @param session the pool's, as inherited
-- @param options number, size, serial, initializer, initargs
function M.forked(link, session, options)
  session:child(options.serial)
  return serve(link, session, options)
end

--- A worker in a fresh state: everything else comes over the pipe.
function M.spawned(link, options)
  return serve(link, host.session(options.serial), options)
end

return M
