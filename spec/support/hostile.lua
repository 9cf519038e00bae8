-- SPDX-License-Identifier: MIT
-- For tasks: writes frames of one's own making into the worker's result pipe.
-- Knows the header of host/channel.h and the types of host/frames.h.
local gate = require "spec.support.gate"
local harm = require "harm"
local lfs = require "lfs"
local luapool = require "luapool"

local M = { CHUNK = 6, READY = 7, RESULT = 8, ERROR = 9 }

--- The message of one value, 7.
M.SEVEN = luapool.encode(7)

-- The pipes that a process ("self" or a pid) has open to read (0) or write (1):
-- {what it is = fd}.
local function pipes(pid, mode)
  local found, dir = {}, ("/proc/%s/fd/"):format(pid)
  for name in lfs.dir(dir) do
    local target = lfs.symlinkattributes(dir .. name, "target")
    local info = target and target:find "^pipe:"
      and gate.read(("/proc/%s/fdinfo/%s"):format(pid, name))
    local flags = info and tonumber(info:match "flags:%s*(%d+)" or "", 8)
    if flags and flags & 3 == mode then found[target] = math.tointeger(name) end
  end
  return found
end

-- The pipe that this process writes and the pool's reads.
local function result_pipe()
  local parent = gate.read("/proc/self/stat"):match "^.*%) %a (%d+)"
  local read = pipes(parent, 0)
  for target, fd in pairs(pipes("self", 1)) do
    if read[target] and fd > 2 then return fd end
  end
  error "no pipe to write to"
end

local function frame(attack)
  local payload = attack.payload or M.SEVEN
  return string.pack("<I4I2BB", attack.length or #payload, attack.task or 1,
    attack.type or M.RESULT, attack.magic or 0xb5) .. payload
end

--- Writes a frame.
-- @param attack raw: bytes; or length, task, type, magic, payload, each right
--   where it is nil (the task is the worker's first)
function M.send(attack)
  harm.write(result_pipe(), attack.raw or frame(attack))
end

--- Writes a result of the task at hand, the worker's `nth` (default 2), and
-- returns the value.
function M.send_result(value, nth)
  M.send { task = nth or 2, payload = luapool.encode(value) }
  return value
end

--- The same after the task has ended, from a child of it.
function M.send_later(seconds, attack)
  harm.fork(seconds, false, result_pipe(), attack.raw or frame(attack))
end

return M
