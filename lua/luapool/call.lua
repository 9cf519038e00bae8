-- SPDX-License-Identifier: MIT
-- One call of a pool: its items, which of them are cut into chunks and which
-- are settled, and what comes out in the end. Knows no worker: the scheduler
-- asks it for ranges of items and tells it what became of them.
--
-- Items have indexes 1..n. Each is uncut (in next..n, or in `returned`), with a
-- worker, or settled: done, failed or dropped. The call is over when `pending`,
-- the number of those not settled, is 0; earlier where an error decides it.

local errors = require "luapool.error"
local future = require "luapool.future"
local registry = require "luapool.registry"

local M = {
  -- Kinds of chunks, as host/frames.h has them.
  MAP = 0,
  STAR = 1,
  CALL = 2,
  -- Stands for a nil among results until they are handed out.
  NIL = setmetatable({}, { __name = "luapool.nil" }),
}

local NIL = M.NIL
local HUGE = math.maxinteger
local min = math.min

--- @type Call
local Call = {
  next = 1,
  stop = HUGE, -- items from here on are dropped
  nils = 0,
  done_size = 0, -- items of the largest chunk that is over
  returned = {},
  seats = {}, -- that have its function
}
Call.__index = Call

local NONE = Call.returned

-- An apply: one item. There is one such object a task, so what is the same for
-- all stands in the metatable, and constructors name every field there will be.
local Apply = {
  kind = M.CALL,
  single = true,
  size = 1,
  pending = 1,
  tries = 0,
}

local last_id = 0

--- Makes a call of the map family.
-- @param fields name, f, kind, items, n, and options: timeout, deadline,
--   deadline_at, retries, on_error, chunksize, seed, nth
function M.new(scheduler, fields)
  local self = setmetatable(fields, Call)
  last_id = (last_id + 1) & 0xffffffff
  self.id = last_id
  self.size = self.n
  self.pending = self.n
  self.uncut = self.n
  self.seats = {}
  self.results = {}
  self.errors = {}
  self.future = future.new(scheduler, self)
  return self
end

--- Makes a call of one task.
-- @param f,bytes the function; it and its arguments, encoded (nil where it is
--   with a worker already, and `again` encodes it)
-- @param name as the user gave it, or nil
function M.apply(scheduler, f, bytes, name)
  local self = setmetatable({
    f = f,
    bytes = bytes,
    name = name,
    future = false,
    number = 0,
    queued = false,
    over = false,
    values = nil,
    pending = 1,
    sent = false,
  }, Apply)
  self.future = future.new(scheduler, self)
  return self
end

--- How errors name its function.
function Call:label()
  return self.name or registry.name_of(self.f)
end

-- ------------------------------------------------------- handing out items

--- Up to `want` items that lie together: first, number, times lost before;
-- nothing where all are cut.
function Call:peek(want)
  local top = self.returned[#self.returned]
  if top then
    return top.first, min(top.n, want), top.tries
  elseif self.next <= self.n then
    return self.next, min(self.n - self.next + 1, want), 0
  end
end

--- The first k items of what peek said are with a worker.
function Call:advance(k)
  self.uncut = self.uncut - k
  local top = self.returned[#self.returned]
  if not top then
    self.next = self.next + k
    return
  end
  top.first, top.n = top.first + k, top.n - k
  if top.n == 0 then
    table.remove(self.returned)
  end
end

--- Items come back unstarted, or to be tried again.
function Call:give_back(first, n, tries)
  local kept = min(n, self.stop - first)
  if self.over or kept <= 0 then
    self.pending = self.pending - n
    return
  end
  self.pending = self.pending - (n - kept)
  self.uncut = self.uncut + kept
  if self.returned == NONE then
    self.returned = {}
  end
  table.insert(self.returned, { first = first, n = kept, tries = tries })
end

--- Drops the uncut items from index `from` on.
function Call:drop(from)
  if from >= self.stop then
    return
  end
  self.stop = from
  local returned = self.returned
  self.returned = NONE
  for _, range in ipairs(returned) do
    self.uncut = self.uncut - range.n
    self:give_back(range.first, range.n, range.tries)
  end
  local keep = math.max(self.next - 1, min(self.n, from - 1))
  self.pending = self.pending - (self.n - keep)
  self.uncut = self.uncut - (self.n - keep)
  self.n = keep
end

-- ------------------------------------------------------------- settling

--- n results from `first` on have been put into the list.
function Call:took(first, n, nils)
  self.pending = self.pending - n
  self.nils = self.nils + nils
  if self.on_settled then
    self.on_settled(first, n)
  end
end

--- The result of an apply, as a packed list.
function Call:took_values(values)
  self.pending = self.pending - 1
  self.values = values
end

--- Item `index` has failed. Returns true where that decides the call: the items
-- behind it need not be started.
function Call:failed(index, e)
  self.pending = self.pending - 1
  e.name = e.name or self:label()
  if self.kind == M.CALL then
    self.failure = e
    return false
  end
  e.index = e.index or index
  self.errors[index] = e
  if self.on_settled then
    self.on_settled(index, 1)
  end
  if self.on_error == "collect" or self.open_ended then
    return false
  end
  if not self.lowest or index < self.lowest then
    self.lowest = index
    return true
  end
  return false
end

--- The list of results as the caller gets it: with `n` where one is nil.
function Call:list()
  local results = self.results
  if self.nils > 0 then
    local n = self.size
    for i = 1, n do
      if results[i] == NIL then
        results[i] = nil
      end
    end
    results.n = n
  end
  return results
end

--- Settles the future by what the items have come to.
function Call:complete()
  local f = self.future
  if self.open_ended then -- its iterator looks at the outcome
    return
  end
  if self.failure then
    return future.fail(f, self.failure)
  elseif self.kind == M.CALL then
    return future.finish(f, self.values)
  elseif self.lowest then
    return future.fail(f, self.errors[self.lowest])
  elseif self.on_error == "collect" then
    if next(self.errors) then
      self.nils = self.nils + 1 -- a failed item leaves a hole as well
    end
    return future.finish(f, { n = 2, self:list(), self.errors })
  end
  return future.finish(f, { n = 1, self:list() })
end

--- Settles the future with an error of the whole call. A call that collects
-- errors raises none: it has one for each item that has no result.
function Call:abort(e)
  e.name = e.name or self:label()
  if self.open_ended then
    return
  elseif self.kind == M.CALL then
    return future.fail(self.future, e)
  elseif self.on_error ~= "collect" or e.kind == "cancelled" then
    if e.kind == "timeout" then
      e.results = self:list()
    end
    return future.fail(self.future, e)
  end
  for i = 1, self.size do
    if self.results[i] == nil and not self.errors[i] then
      self.errors[i] = errors.new(e.kind, e.message,
        { index = i, name = self:label() })
    end
  end
  return self:complete()
end

-- One item is with a worker or is not.

function Apply:peek()
  if not self.sent then
    return 1, 1, self.tries
  end
end

function Apply:advance()
  self.sent = true
end

function Apply:give_back(_, _, tries)
  if self.over or self.stop == 1 then
    self.pending = 0
    return
  end
  self.sent = false
  self.tries = tries
end

function Apply:drop(from)
  self.stop = from
  if from == 1 and not self.sent then
    self.sent = true
    self.pending = 0
  end
end

for name, value in pairs(Call) do
  if Apply[name] == nil then
    Apply[name] = value
  end
end
Apply.__index = Apply

return M
