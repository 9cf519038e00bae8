-- SPDX-License-Identifier: MIT
-- Taking work over: an idle worker gets half of what the busiest has not
-- started. The ledger sees to it that an item is run or taken back, never both.

local host = require "luapool.host"

local clock, max = host.clock, math.max

-- Work behind the running item that is not worth taking over, seconds, unless
-- the running item takes longer than RESTLESS.
local NOT_WORTH = 0.0003
local RESTLESS = 0.001

local M = {}

-- Items that may be taken from a seat, and how long they will take; the time
-- is nil where nothing is known. What it runs next, if it runs nothing, stays:
-- else two seats that are slow to start would take one item from each other
-- for ever.
local function spare(seat)
  local items, seconds = seat:running() and 0 or -1, 0
  for i = seat.head, seat.tail do
    local chunk = seat.chunks[i]
    local n = chunk.n - max(chunk.done, seat.handle:claimed(chunk.serial))
    local per_item = chunk.call.per_item
    items = items + n
    seconds = seconds and per_item and seconds + n * per_item
  end
  return items, seconds
end

-- The seat with most to take over.
local function richest(seats)
  local best, most, best_seconds = nil, 0, nil
  for _, seat in ipairs(seats) do
    if seat:open() and seat.outstanding > 0 then
      local items, seconds = spare(seat)
      if items > most then
        best, most, best_seconds = seat, items, seconds
      end
    end
  end
  return best, most, best_seconds
end

-- Takes about half of what the seat can spare, from its last chunk.
local function take_over(scheduler, seat, items)
  local last = seat.chunks[seat.tail]
  local first, n = seat:revoke(last, max(0, last.n - (items + 1) // 2))
  if n > 0 then
    scheduler:returned(last.call, first, n, last.tries)
  end
  seat:skip_empty()
  return n > 0
end

--- Takes work back from a busy seat for an idle one; whether there was any.
-- Where it is little, it waits a moment: the busy one may well be done with it
-- before a message could be sent.
function M.take_over(scheduler)
  local seat, items, seconds = richest(scheduler.seats)
  if seat and seconds and seconds < NOT_WORTH then
    local now = clock()
    scheduler.restless_at = scheduler.restless_at or now + RESTLESS
    if now < scheduler.restless_at then
      return false
    end
  end
  scheduler.restless_at = nil
  return seat ~= nil and take_over(scheduler, seat, items)
end

return M
