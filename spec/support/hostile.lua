-- SPDX-License-Identifier: MIT
-- For tasks: writes frames of one's own making into the worker's result pipe.
-- Knows the header of host/channel.h and the types of host/frames.h.
local harm = require "harm"
local lfs = require "lfs"
local luapool = require "luapool"

local M = { CHUNK = 5, READY = 6, RESULT = 7, ERROR = 8 }

--- The message of one value, 7.
M.SEVEN = luapool.encode(7)

-- The flags of an open descriptor, as in fcntl; nil where there is none.
local function flags(fd)
  local file <close> = io.open("/proc/self/fdinfo/" .. fd)
  return file and tonumber(file:read("a"):match "flags:%s*(%d+)", 8)
end

-- The one pipe above 2 that this process writes to.
local function result_pipe()
  local own
  for name in lfs.dir("/proc/self/fd") do
    local fd = math.tointeger(name)
    local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
    if fd and fd > 2 and target and target:find "^pipe:"
      and (flags(fd) or 0) & 3 == 1 then
      own = math.max(own or 0, fd)
    end
  end
  return assert(own, "no pipe to write to")
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
