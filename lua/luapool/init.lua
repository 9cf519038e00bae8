-- SPDX-License-Identifier: MIT

--- Parallel jobs in Lua: pools of worker processes over plain pipes.
--
--    local luapool = require "luapool"
--    local pool <close> = luapool.Pool()
--    local results = pool:map(f, items)
--
-- @module luapool

local host = require "luapool.host"
local errors = require "luapool.error"
local futures = require "luapool.future"
local pools = require "luapool.pool"
local registry = require "luapool.registry"
local worker = require "luapool.worker"

local M = {}

local values, impl = pools.values, pools.impl

--- The metatable of every error object.
M.Error = errors.Error

--- Makes a pool; see `luapool.pool`.
-- @function Pool
function M.Pool(o)
  return values(pools.new(o))
end

M.wait = futures.wait
M.as_completed = futures.as_completed
M.encode = host.encode
M.decode = host.decode

--- Gives a table or function a name under which it travels by reference.
-- @string name
-- @param value table or function
M.register = registry.register

--- CPUs this process may use.
-- @treturn integer
M.cpu_count = host.cpu_count

--- This worker's number, 1..#pool; nil outside of workers.
function M.worker()
  return worker.number
end

-- The default pool: made at first use, ended at exit. One that a child
-- inherited is its parent's.
local default_pool

local function default()
  if not (default_pool and default_pool.scheduler:owned()
    and default_pool.scheduler.state == "open"
    and not default_pool.scheduler.broken) then
    default_pool = pools.new()
  end
  return default_pool
end

--- As `pool:map`, on the default pool.
function M.map(f, items, opts)
  return values(impl.map(default, f, items, opts))
end

--- As `pool:starmap`, on the default pool.
function M.starmap(f, argslist, opts)
  return values(impl.starmap(default, f, argslist, opts))
end

--- As `pool:imap`, on the default pool.
function M.imap(f, items, opts)
  return values(impl.imap(default, f, items, opts))
end

--- As `pool:imap_unordered`, on the default pool.
function M.imap_unordered(f, items, opts)
  return values(impl.imap_unordered(default, f, items, opts))
end

--- As `pool:apply`, on the default pool.
function M.apply(f, args, opts)
  return values(impl.apply(default, f, args, opts))
end

return M
