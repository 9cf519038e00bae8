-- SPDX-License-Identifier: MIT
-- Events between a spec and its tasks, as files under /tmp: a gate is opened by
-- one process and awaited by others, a tally counts what happened in any of
-- them. Used instead of sleeps; every wait has a generous end, so that a fault
-- shows as an error and not as a hang. The functions travel by name.
local system = require "system"

local M = {}

local PATIENCE = 20 -- seconds until a wait is a failure
local names = {}

--- Seconds on a clock that only goes forward.
M.now = system.monotime
M.sleep = system.sleep

--- A path that does not exist yet; removed by clean.
function M.name()
  local base = os.tmpname()
  names[#names + 1] = base
  return base .. ".gate"
end

--- Removes every file that name() gave out.
function M.clean()
  for i = #names, 1, -1 do
    os.remove(names[i] .. ".gate")
    os.remove(names[i])
    names[i] = nil
  end
end

--- Calls fn until it gives a true value, and returns that value.
function M.eventually(fn, seconds, what)
  local limit = M.now() + (seconds or PATIENCE)
  while true do
    local value = fn()
    if value then return value end
    if M.now() > limit then
      error((what or "it") .. " did not happen in time", 2)
    end
    M.sleep(0.002)
  end
end

--- Appends a byte, and text where there is one: opens a gate, counts an event.
function M.mark(path, text)
  local file = assert(io.open(path, "a"))
  file:write(text or "+")
  file:close()
end

--- The contents of a file, "" where there is none.
function M.read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text or ""
end

--- How many times the path was marked.
function M.count(path) return #M.read(path) end

--- Waits until the path was marked n times, once where n is not given.
function M.wait(path, n, seconds)
  M.eventually(function() return M.count(path) >= (n or 1) end, seconds,
    "opening of the gate")
end

--- A meeting point of n processes: all wait here for the last one.
function M.meet(path, n)
  M.mark(path)
  M.wait(path, n)
end

return M
