-- SPDX-License-Identifier: MIT

--- Children that live as long as this process: forks of it, each with a loop of
-- its own, and replaced where they end before. Unlike workers they are sent
-- nothing. What a child makes is its own: it may have pools, and
-- `host.exit_on_term` is its to call anew. It ends when this process does.
--
--    local children <close> = require "luapool.children".start(4, main)
--    return children:watch()
-- @module luapool.children

local host = require "luapool.host"
local errors = require "luapool.error"
local options = require "luapool.options"
local supervisor = require "luapool.supervisor"

local check, clock = options.check, host.clock

-- Seconds after which a child was none that only dies.
local STEADY = 1
-- Ends in a row, of one child that never was steady, which are put up with.
local MOST_ENDS = 10
-- Seconds between TERM and KILL.
local GRACE = 0.1

--- @type Children
local Children = { __name = "luapool.Children" }
Children.__index = Children

local M = {}

-- What a child does from its first line to its last.
local function run(main, number)
  math.randomseed(host.entropy())
  local ok, trace = xpcall(main, debug.traceback, number)
  if not ok then
    io.stderr:write("luapool: ", errors.text(trace), "\n")
  end
  host.exit(ok and 0 or 1)
end

-- Fills a place; true, or nil and a message.
local function fork(self, place)
  local handle, message = host.fork(function(link)
    run(self.main, place.number)
    return link -- in use until then: its pipe is open as long as we live
  end)
  if not handle then
    return nil, message
  end
  local added, why = self.poller:add(handle, place.number)
  if not added then
    return nil, why
  end
  place.handle, place.begun = handle, clock()
  return true
end

--- Starts n children.
-- @int n
-- @func main main(number) runs in each, 1..n; a child ends when it returns
-- @treturn Children
-- @raise kind `broken` where not all can be started
function M.start(n, main)
  options.argument(2, 1, "start", n, check.positive)
  options.argument(2, 2, "start", main, check["function"])
  local poller, message = host.poller()
  if not poller then
    errors.raise("broken", message)
  end
  local self = setmetatable({ main = main, poller = poller, places = {},
    epoch = host.epoch() }, Children)
  for number = 1, n do
    self.places[number] = { number = number, ends = 0 }
    local ok, why = fork(self, self.places[number])
    if not ok then
      self:finish(0)
      errors.raise("broken", why)
    end
  end
  return self
end

-- --------------------------------------------------------------- replacing

local function give_up(place, why)
  errors.raise("broken", ("child %d has ended %d times in a row; the last: %s")
    :format(place.number, place.ends, why))
end

local fill

-- Now, or after a pause that grows with the number of ends in a row.
local function replace(self, place, why)
  place.ends = place.ends + 1
  if place.ends > MOST_ENDS then
    give_up(place, why)
  end
  local pause = supervisor.pause(place.ends)
  if pause > 0 then
    place.start_at = clock() + pause
  else
    fill(self, place)
  end
end

-- A fork that fails is an end, too: it is tried again.
function fill(self, place)
  local ok, message = fork(self, place)
  if not ok then
    replace(self, place, message)
  end
end

local function fill_due(self)
  for _, place in ipairs(self.places) do
    if place.start_at and place.start_at <= clock() then
      place.start_at = nil
      fill(self, place)
    end
  end
end

local function reap(self, place)
  local handle = place.handle
  self.poller:remove(handle, place.number)
  local exitcode, signal = handle:reap()
  handle:close()
  place.handle = nil
  if clock() - place.begun >= STEADY then
    place.ends = 0
  end
  return exitcode, signal
end

local function reason(exitcode, signal)
  if not signal then
    return ("exited with status %d"):format(exitcode)
  end
  return ("killed by %s (%d)"):format(host.signal_name(signal), signal)
end

-- A child has ended; what on_end makes of it.
local function ended(self, place, on_end)
  local exitcode, signal = reap(self, place)
  local verdict
  if on_end then
    verdict = on_end(place.number, exitcode, signal)
  end
  if verdict == nil then
    replace(self, place, reason(exitcode, signal))
  end
  return verdict
end

-- ---------------------------------------------------------------- watching

local READ, EXIT = 0, 2

-- Seconds until a place is to be filled; nil: none is.
local function time_left(self)
  local at
  for _, place in ipairs(self.places) do
    if place.start_at then
      at = math.min(at or math.huge, place.start_at)
    end
  end
  return at and math.max(0, at - clock())
end

local function handle_event(self, event, on_end)
  local place, kind = self.places[event >> 2], event & 3
  if not place or not place.handle then
    return
  elseif kind == EXIT then
    return ended(self, place, on_end)
  elseif kind == READ and place.handle:read() == nil then
    self.poller:forget_read(place.handle, place.number)
  end
end

local function step(self, events, on_end)
  local n = self.poller:wait(time_left(self), events)
  if not n then
    host.interrupted()
    errors.raise("interrupted", "interrupted!")
  end
  for i = 1, n do
    local verdict = handle_event(self, events[i], on_end)
    if verdict ~= nil then
      return verdict
    end
  end
  fill_due(self)
end

--- Waits for ends, and replaces those that have ended: the first few at once,
-- more in a row after pauses.
-- @func[opt] on_end on_end(number, exitcode, signal), one of the two is nil:
--   returns nil where the child is to be replaced, else what ends the watch
-- @return what on_end returned; nothing else ends it
-- @raise kind `broken` where a child does nothing but end; `interrupted`
function Children:watch(on_end)
  options.argument(2, 1, "watch", on_end, check["function"], true)
  local events = {}
  while true do
    local verdict = step(self, events, on_end)
    if verdict ~= nil then
      return verdict
    end
  end
end

-- ------------------------------------------------------------------ ending

--- The process ids of those that live, by number.
function Children:pids()
  local pids = {}
  for number, place in ipairs(self.places) do
    pids[number] = place.handle and place.handle:pid()
  end
  return pids
end

--- Ends all of them: TERM, the grace, KILL. Idempotent.
-- @number[opt=0.1] grace seconds
function Children:finish(grace)
  options.argument(2, 1, "finish", grace, check.seconds, true)
  if self.epoch ~= host.epoch() then
    return
  end
  local limit = clock() + (grace or GRACE)
  for _, place in ipairs(self.places) do
    place.start_at = nil
    if place.handle then
      place.handle:kill(15)
    end
  end
  for _, place in ipairs(self.places) do
    if place.handle then
      self.poller:remove(place.handle, place.number)
      place.handle:terminate(math.max(0, limit - clock()))
      place.handle:close()
      place.handle = nil
    end
  end
  self.poller:close()
end

function Children:__close()
  self:finish()
end

function Children:__gc()
  self:finish()
end

return M
