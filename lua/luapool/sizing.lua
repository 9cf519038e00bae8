-- SPDX-License-Identifier: MIT
-- How many items go into a chunk, and how many chunks to a worker: from what
-- the items before them took.

local calls = require "luapool.call"
local seats = require "luapool.seat"

local min, max = math.min, math.max

-- Seconds of work that a chunk should hold: long against the cost of a message,
-- short against what a user waits for.
local CHUNK_SECONDS = 0.002
-- A chunk is at most this many times the largest before it that is done: one
-- lucky measurement must not put everything on one worker.
local GROWTH = 8
-- Items of one chunk at most; LEDGER_ITEMS_MAX of host/ledger.h is above it.
local MOST_ITEMS = 1 << 20
-- Weight of the newest measurement of a task's time.
local NEWEST = 0.5

-- Of tasks as quick as this (seconds) it takes so many to be worth measuring.
local QUICK, QUICK_ITEMS = 0.0001, 8

local M = {}

--- The number of items of the call's next chunk.
-- @int size workers
function M.items(call, size)
  if call.one_by_one then
    return 1
  elseif call.chunksize then
    return call.chunksize
  end
  if not call.per_item then
    return 1
  end
  local n = call.per_item > 0 and CHUNK_SECONDS // call.per_item or MOST_ITEMS
  n = min(n, call.done_size * (call.growth or GROWTH), MOST_ITEMS)
  if not call.open_ended then
    n = min(n, call.uncut // (2 * size)) -- the end comes for all at once
  end
  return max(1, math.tointeger(n))
end

--- The number of chunks a worker should have: one to run and one behind it;
-- more where they are so short that it would wait for the next message.
-- @param seat with at least one chunk
-- @number|nil per_apply seconds of an apply
function M.depth(seat, per_apply)
  local chunk = seat.chunks[seat.tail]
  local call = chunk and chunk.call
  if not call or call.one_by_one then
    return 2
  end
  local per_item = call.chunksize and call.per_item
  if call.kind == calls.CALL then
    per_item = per_apply
  end
  if not per_item then
    return 2
  end
  local seconds = max(per_item * chunk.n, 1e-6)
  return max(2, min(CHUNK_SECONDS // seconds, seats.CHUNKS - 1))
end

--- Takes the measure of what the seat has done since the last time.
-- @return the new estimate: seconds an item
-- @number|nil before the estimate so far
function M.measure(seat, before)
  local items = seat.tasks - seat.items_seen
  if before and before < QUICK and items < QUICK_ITEMS then
    return before
  end
  local busy = seat.handle:busy()
  if items <= 0 or busy <= seat.busy_seen then
    return before
  end
  local per_item = (busy - seat.busy_seen) / items
  seat.busy_seen, seat.items_seen = busy, seat.tasks
  return before and before + NEWEST * (per_item - before) or per_item
end

return M
