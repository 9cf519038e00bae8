-- SPDX-License-Identifier: MIT
-- pool:imap and pool:imap_unordered: an iterator that reads its source only as
-- far ahead as the workers need. Only the iterator's own calls read.

local calls = require "luapool.call"
local errors = require "luapool.error"
local sizing = require "luapool.sizing"

local NIL = calls.NIL
local max, min = math.max, math.min

--- @type Imap
local Imap = { __name = "luapool.Imap", __luapool = "iterator" }
Imap.__index = Imap

local M = {}

--- Makes the iterator of an open-ended call.
-- @param scheduler
-- @param call with n = 0, open_ended = true
-- @func read returns whether there is another item, and the item; may raise
-- @bool ordered
-- @int[opt] buffersize items read and not yet handed out
function M.new(scheduler, call, read, ordered, buffersize)
  local self = setmetatable({
    scheduler = scheduler,
    call = call,
    read = read,
    ordered = ordered,
    buffersize = buffersize,
    handed = 0, -- items handed out
    turn = 1, -- index of the next one in order
    done = { last = 0 }, -- unordered: indexes settled, not handed out
    first_done = 1,
  }, Imap)
  if not ordered then
    local done = self.done -- not self: the call must not keep it alive
    call.on_settled = function(first, n)
      for i = first, first + n - 1 do
        done.last = done.last + 1
        done[done.last] = i
      end
    end
  end
  return self, nil, nil, self
end

-- ----------------------------------------------------------------- reading

local function read_one(self)
  local call = self.call
  local ok, more, item = pcall(self.read)
  if not ok then
    self.source_error = { more }
    more = false
  end
  if not more then
    self.source_ended = true
    return false
  end
  call.n = call.n + 1
  call.size = call.n
  call.uncut = call.uncut + 1
  call.pending = call.pending + 1
  call.items[call.n] = item
  return true
end

-- Reads on while a whole chunk has room in the buffer.
local function read_ahead(self)
  local call, s = self.call, self.scheduler
  local chunk = sizing.items(call, s.size)
  local room = self.buffersize or 2 * chunk * max(1, s.size)
  if self.buffersize then
    chunk = max(1, min(chunk, self.buffersize // (2 * max(1, s.size))))
  end
  local before = call.n
  s:expect(call) -- the source may wait for the pool
  while not self.source_ended and call.n - self.handed + chunk <= room do
    for _ = 1, chunk do
      if not read_one(self) then
        break
      end
    end
  end
  if call.n > before then
    s:more(call)
  end
end

-- ------------------------------------------------------------ handing out

local function forget(self, index)
  local call = self.call
  call.results[index], call.errors[index], call.items[index] = nil, nil, nil
  self.handed = self.handed + 1
end

local function hand_out(self, index)
  local call = self.call
  local value, e = call.results[index], call.errors[index]
  forget(self, index)
  if value == NIL then
    value = nil
  end
  if not e then
    return index, value
  elseif call.on_error == "collect" then
    return index, nil, e
  end
  error(e, 0)
end

-- The next index that can be handed out.
local function settled(self)
  local call = self.call
  if self.ordered then
    local i = self.turn
    if call.results[i] ~= nil or call.errors[i] then
      self.turn = i + 1
      return i
    end
    return nil
  end
  local i = self.done[self.first_done]
  if i then
    self.done[self.first_done] = nil
    self.first_done = self.first_done + 1
  end
  return i
end

local function something_settled(self)
  local call = self.call
  if self.ordered then
    local i = self.turn
    return call.results[i] ~= nil or call.errors[i] ~= nil or call.over
  end
  return self.done[self.first_done] ~= nil or call.over
end

local function close(self)
  self.ended = true
  local call = self.call
  if not call.over and self.scheduler:owned() then
    self.scheduler:leave(call)
  end
end

-- All read items are handed out: the source's error, if any, then the end.
local function finish(self)
  local e = self.source_error
  self.source_error = nil
  close(self)
  if e then
    error(e[1], 0)
  end
end

-- The whole call was ended: deadline, terminate, broken.
local function outcome(self)
  local e = self.call.outcome
  close(self)
  if e then
    self.call.outcome = nil
    error(e, 0)
  end
end

function Imap:__call()
  self.scheduler:check_owned()
  if self.ended then
    return outcome(self)
  end
  local call = self.call
  while true do
    if not call.over and not self.scheduler.joining then
      read_ahead(self)
    end
    local index = settled(self)
    if index then
      return hand_out(self, index)
    elseif self.source_ended and self.handed == call.n then
      return finish(self)
    elseif call.over then
      return outcome(self)
    elseif self.handed == call.n then -- and more cannot be read
      close(self)
      errors.raise("closed", "the pool is " .. self.scheduler.state)
    end
    self.scheduler:run_until(something_settled, self)
  end
end

--- Drops what has not started.
function Imap:__close()
  close(self)
end

-- A collection may come in the middle of a step, which then must not find its
-- work gone.
function Imap:__gc()
  if not self.ended then
    self.scheduler:abandon(self.call)
  end
end

return M
