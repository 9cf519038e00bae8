-- SPDX-License-Identifier: MIT
-- What a spec must not leave behind: a child process, dead or alive, or an open
-- file descriptor. `leaks.guard(before_each, after_each)` inside a describe
-- checks it after every test of the block; what a block has to tidy up goes to
-- `leaks.finish`.
local gate = require "spec.support.gate"
local lfs = require "lfs"

local M = {}

--- This process's id; in a task, the worker's.
function M.pid()
  local file = assert(io.open("/proc/self/stat"))
  local pid = file:read("n")
  file:close()
  return pid
end

-- State letter and parent of a process, nil where there is none.
local function status(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return nil end
  local line = file:read("a")
  file:close()
  return (line or ""):match("^.*%) (%a) (%d+)")
end

--- True where the process runs; a zombie does not.
function M.alive(pid)
  local state = status(pid)
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- The children of a process (default: this one), zombies too: {pid = state}.
function M.children(pid)
  local parent, found = tostring(pid or M.pid()), {}
  for name in lfs.dir("/proc") do
    if name:find("^%d+$") then
      local state, of = status(name)
      if of == parent then found[math.tointeger(name)] = state end
    end
  end
  return found
end

--- How many entries a table has.
function M.size(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

--- The open descriptors of this process: {fd = what it is}.
function M.fds()
  local names, found = {}, {}
  for name in lfs.dir("/proc/self/fd") do names[#names + 1] = name end
  for _, name in ipairs(names) do
    local path = "/proc/self/fd/" .. name
    local target = lfs.symlinkattributes(path, "target")
    if target and not target:find("/fd$") then
      found[math.tointeger(name)] = target
    end
  end
  return found
end

-- The entries of `now` that are not in `before`, as text.
local function added(before, now)
  local list = {}
  for key, value in pairs(now) do
    if before[key] ~= value then
      list[#list + 1] = ("%s (%s)"):format(key, value)
    end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

-- Children by pid alone: one that was there before may change its state.
local function by_pid(children, known)
  local t = {}
  for pid, state in pairs(children) do
    if not (known and known[pid]) then t[pid] = state end
  end
  return t
end

--- What this process has now, to be compared by check.
function M.snapshot()
  return { children = M.children(), fds = M.fds() }
end

--- Raises an error where more is there than at the snapshot.
function M.check(before)
  collectgarbage()
  collectgarbage()
  local children = by_pid(M.children(), before.children)
  local fds = M.fds()
  if next(children) then
    error("children left behind: " .. added({}, children), 0)
  end
  if M.size(fds) > M.size(before.fds) then
    error("descriptors left open: " .. added(before.fds, fds), 0)
  end
end

local endings -- of the block that guard was called in last

--- Checks every test of the describe block it is called in.
function M.guard(before_each, after_each)
  local before
  local own = {}
  endings = own
  before_each(function() before = M.snapshot() end)
  after_each(function()
    for _, f in ipairs(own) do f() end
    gate.clean()
    M.check(before)
  end)
end

--- An after_each of a guarded block that runs before the check.
function M.finish(f) endings[#endings + 1] = f end

return M
