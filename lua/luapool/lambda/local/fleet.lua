-- SPDX-License-Identifier: MIT
-- The sandboxes of a function: started when an invocation finds none free, at
-- most so many, and used again. An invocation that finds no place is refused,
-- as Lambda does with one too many; one whose caller does not wait stays in a
-- queue.

local host = require "luapool.host"
local sandbox = require "luapool.lambda.local.sandbox"

local M = {}

local Fleet = {}
Fleet.__index = Fleet

--- @tparam table config see luapool.lambda.local.sandbox
-- @int most sandboxes at a time
-- @param httpd the module
function M.new(config, most, httpd)
  return setmetatable({ config = config, most = most, httpd = httpd,
    sandboxes = {}, queue = {} }, Fleet)
end

-- An idle one, else one that is about to ask for more.
local function find_free(self)
  local free
  for _, s in ipairs(self.sandboxes) do
    local is_free, is_idle = s:is_free()
    if is_free and is_idle then return s end
    free = free or is_free and s
  end
  return free
end

-- Those on their way out take no place.
local function is_full(self)
  local places = self.most
  for _, s in ipairs(self.sandboxes) do
    if not s.ending then places = places - 1 end
  end
  return places <= 0
end

--- Has it run, or started to be.
-- @return false where all sandboxes are busy
function Fleet:run(invocation)
  local free = find_free(self)
  if not free then
    if is_full(self) then return false end
    free = sandbox.new(self.config, self.httpd)
    table.insert(self.sandboxes, free)
  end
  free:run(invocation)
  return true
end

--- Has it run when there is a place.
function Fleet:enqueue(invocation)
  table.insert(self.queue, invocation)
end

local function drain(self)
  while self.queue[1] and self:run(self.queue[1]) do
    table.remove(self.queue, 1)
  end
end

-- Its process is gone; what it was given and had not begun runs elsewhere.
local function remove(self, i)
  local gone = table.remove(self.sandboxes, i)
  gone:close()
  if gone.invocation then table.insert(self.queue, 1, gone.invocation) end
end

--- Does what can be done without waiting.
function Fleet:step()
  for i = #self.sandboxes, 1, -1 do
    if not self.sandboxes[i]:step() then remove(self, i) end
  end
  drain(self)
end

--- Enters its descriptors in the list.
-- @return seconds until it must be stepped
function Fleet:watch(fds)
  local seconds = math.huge
  for _, s in ipairs(self.sandboxes) do
    seconds = math.min(seconds, s:watch(fds))
  end
  return seconds
end

--- Ends all sandboxes, and waits for that.
function Fleet:close()
  self.queue = {}
  for _, s in ipairs(self.sandboxes) do s:shut_down() end
  while #self.sandboxes > 0 do
    local fds = {}
    host.poll(fds, math.max(0, self:watch(fds)))
    self:step()
  end
end

Fleet.__close = Fleet.close

return M
