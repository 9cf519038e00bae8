-- SPDX-License-Identifier: MIT

--- An invocation: a piece of work with a time limit and an environment, after
-- which nothing may run on. For programs that live on between such pieces with
-- their pools open.
--
--    invocation.setenv("REQUEST", id)
--    invocation.begin(seconds)
--    ... calls of pools ...
--    local ended = invocation.finish()
--
-- All of it concerns the pools of this process, not its children's.
-- @module luapool.invocation

local environment = require "luapool.environment"
local errors = require "luapool.error"
local limits = require "luapool.limits"
local options = require "luapool.options"
local pending = require "luapool.pending"
local scheduler = require "luapool.scheduler"
local supervisor = require "luapool.supervisor"

local check = options.check

local M = {}

-- Seconds that a task has between TERM and KILL.
local GRACE = 0.05
-- Times that callbacks of what was ended may submit new tasks.
local ROUNDS = 100

--- Sets an environment variable: in this process at once, in every worker of
-- its pools, present and future, before its next task. os.getenv sees it, and
-- so do programs that tasks start.
-- @string name
-- @string[opt] value nil removes the variable
function M.setenv(name, value)
  options.argument(2, 1, "setenv", name, check.string)
  options.argument(2, 2, "setenv", value, check.string, true)
  environment.set(name, value)
end

--- Begins an invocation. Whoever waits in a call of any pool when its time is
-- up, or after that, gets an error of kind `timeout` that names the tasks which
-- are pending.
-- @number[opt] seconds nil: no limit
function M.begin(seconds)
  options.argument(2, 1, "begin", seconds, check.number, true)
  limits.set_invocation(seconds)
end

-- Has it anything that must end?
local function busy(s)
  return s.items_out > 0 or s.dying > 0 or not s:drained()
end

-- Those of these schedulers that have something to end.
local function all_busy()
  local list = {}
  for _, s in ipairs(scheduler.all()) do
    if s.inside then
      error("a pool is at work: an invocation cannot finish within it", 0)
    elseif busy(s) then
      table.insert(list, s)
    end
  end
  return list
end

local function none_dying(s)
  return s.dying == 0
end

-- Ends what is pending, whose callbacks may leave new work behind.
-- @return list of groups as of pending.of
local function end_pending(list)
  for _, s in ipairs(list) do
    s:take_in()
  end
  local groups = pending.of(list)
  for _, s in ipairs(list) do
    local grace = s.grace
    s.grace = GRACE
    s:cut_short(errors.new("cancelled", "the invocation is over"))
    s.grace = grace
  end
  for _, s in ipairs(list) do
    if s.dying > 0 then
      s:run_until(none_dying, s)
    end
  end
  return groups
end

-- Replacements that wait for their turn are made now.
local function fill_up()
  for _, s in ipairs(scheduler.all()) do
    if s.waiting > 0 then
      supervisor.hurry(s)
      s:step(0)
    end
  end
end

--- Ends the invocation: its limit, and every pending task of every pool. Their
-- futures are cancelled, the workers that ran them killed and replaced when it
-- returns.
-- @treturn {string,...} what was ended, a line a task or call; at most 21 lines
function M.finish()
  limits.set_invocation(nil)
  local all = {}
  for _ = 1, ROUNDS do
    local list = all_busy()
    if not list[1] then
      break
    end
    for _, group in ipairs(end_pending(list)) do
      table.insert(all, group)
    end
  end
  for _, s in ipairs(all_busy()) do
    supervisor.break_down(s, "callbacks submit new tasks without end")
    s:settle()
  end
  fill_up()
  return pending.lines(all)
end

return M
