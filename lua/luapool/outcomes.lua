-- SPDX-License-Identifier: MIT
-- What became of items and calls: results come in, items fail or come back,
-- calls end, and their futures are settled. These are methods of the scheduler.

local host = require "luapool.host"
local errors = require "luapool.error"
local dispatch = require "luapool.dispatch"

local max = math.max

local methods = {}

function methods:items_done(call, first, n, nils)
  if call.over then
    return
  end
  call:took(first, n, nils)
  self:check(call)
end

function methods:values_done(call, values)
  if not call.over then
    call:took_values(values)
    self:check(call)
  end
end

function methods:item_failed(call, index, e)
  if call.over then
    return
  end
  if call:failed(index, e) then
    self:drop(call, index + 1)
  end
  self:check(call)
end

--- A worker died over this item.
function methods:item_lost(call, index, tries, e)
  if not call.over and tries < (call.retries or 0) then
    call:give_back(index, 1, tries + 1)
    return dispatch.enqueue_first(self, call)
  end
  self:item_failed(call, index, e)
end

--- Items come back unstarted.
function methods:returned(call, first, n, tries)
  call:give_back(first, n, tries)
  if call:peek(1) and not call.over then
    dispatch.enqueue_first(self, call)
  end
  self:check(call)
end

--- What has not started of the call's items from `from` on never will.
function methods:drop(call, from)
  call:drop(from)
  for _, seat in ipairs(self.seats) do
    if seat.handle and seat.outstanding > 0 then
      for i = seat.tail, seat.head, -1 do
        local chunk = seat.chunks[i]
        if chunk.call == call then
          local first, n = seat:revoke(chunk, max(0, from - chunk.first))
          if n > 0 then
            call:give_back(first, n, chunk.tries)
          end
        end
      end
      seat:skip_empty()
    end
  end
end

-- Is an item before the lowest failed one still to come?
local function lower_pending(self, call)
  if call.next < call.lowest then
    return true
  end
  for _, range in ipairs(call.returned) do
    if range.first < call.lowest then
      return true
    end
  end
  for _, seat in ipairs(self.seats) do
    for i = seat.head or 1, seat.tail or 0 do
      local chunk = seat.chunks[i]
      if chunk and chunk.call == call and chunk.done < chunk.n
        and chunk.first + chunk.done < call.lowest then
        return true
      end
    end
  end
  return false
end

--- Is the call over?
function methods:check(call)
  if call.over or call.open_ended then
    return
  elseif call.pending <= 0
    or call.lowest and not lower_pending(self, call) then
    self:over(call)
  end
end

--- The call is over; with an error, that is its outcome. The future is settled
-- at the end of the step, when the scheduler can be called again.
function methods:over(call, e)
  call.over = true
  call.outcome = e
  self.calls[call] = nil
  if call.deadline_at and call.pending > 0 and self:is_running(call) then
    table.insert(self.leftovers, call) -- what runs has until then
  elseif call.deadline_at then
    self.deadlines = self.deadlines - 1
  end
  for _, seat in ipairs(call.seats) do
    if seat.handle and seat.scopes[call.id] then
      table.insert(seat.forget, call.id)
    end
  end
  self.last_finished = self.last_finished + 1
  self.finished[self.last_finished] = call
end

--- Are there futures to be settled?
function methods:unsettled()
  return self.finished[self.next_finished] ~= nil
end

--- Settles the futures of calls that are over, and runs their callbacks. One of
-- those may come back here: it goes on with the rest.
function methods:settle()
  while not self.inside and self:unsettled() do
    host.busy(true)
    local at = self.next_finished
    local call = self.finished[at]
    self.finished[at] = nil
    self.next_finished = at + 1
    if call.outcome then
      call:abort(call.outcome)
    else
      call:complete()
    end
    host.busy(false)
  end
end

--- Takes in whatever is finished. Whether workers have come any further.
function methods:look()
  local further = false
  for _, seat in ipairs(self.seats) do
    if seat.handle and seat:look() then
      further = true
    end
  end
  return further
end

--- Kills what the call has running.
function methods:kill_running(call, e)
  for _, seat in ipairs(self.seats) do
    if seat:at_work() then
      local chunk, index = seat:running()
      if chunk and chunk.call == call then
        seat:kill_item(call, index, e)
      end
    end
  end
end

--- Ends a call before its time with an error: drops and kills. A result that
-- has come in, or a worker has finished, counts first.
function methods:stop(call, e)
  self:look()
  if not call.over then
    self:drop(call, 1)
    self:over(call, e)
    self:kill_running(call, e)
  end
  dispatch.send(self) -- to whom the look has found idle, too
end

--- All that are not over, in the order in which they were made.
function methods:all_calls()
  local list = {}
  for call in pairs(self.calls) do
    table.insert(list, call)
  end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

--- Is a worker at an item of the call?
function methods:is_running(call)
  self:check_owned()
  for _, seat in ipairs(self.seats) do
    if seat.handle and seat.outstanding > 0 then
      local chunk = seat:running()
      if chunk and chunk.call == call then
        return true
      end
    end
  end
  return false
end

--- Ends every call with an error; what runs is the caller's to kill.
function methods:stop_all(e)
  for _, call in ipairs(self:all_calls()) do
    self:drop(call, 1)
    self:over(call, errors.copy(e))
  end
end

-- ---------------------------------------------------------------- failures

--- The initializer failed: nothing will ever run.
function methods:fail_start(e)
  if not self.broken then
    self.broken = e
    self:stop_all(e)
  end
end

-- Who has asked for these knows of them.
local expected = { terminated = true, interrupted = true }

--- A failed future whose error nobody has looked at.
function methods:unseen_failure(f)
  if not expected[f.error.kind] then
    self.unseen[f] = true
  end
end

function methods:seen_failure(f)
  self.unseen[f] = nil
end

return methods
