-- SPDX-License-Identifier: MIT
-- One place among a pool's workers: the process that sits there now, the chunks
-- it has been sent, and the next process after its end. Chunks are answered in
-- the order in which they were sent, items in the order of the chunk.

local host = require "luapool.host"
local environment = require "luapool.environment"
local errors = require "luapool.error"
local limits = require "luapool.limits"
local worker = require "luapool.worker"
local calls = require "luapool.call"

local NIL, CALL = calls.NIL, calls.CALL

-- Bytes of one message after which no further item is put into it.
local BUDGET = 256 * 1024
-- Reads from a dead worker's pipe at most: it holds less, but a grandchild may
-- go on writing.
local LAST_READS = 64
-- Seconds between the end of a worker's pipe and its own.
local EOF_GRACE = 0.1
-- Seconds after which the rest of a frame is asked after.
local STALL = 0.05
-- Seconds of the short way of an apply that has a time limit to look after.
local SHORT = 0.02
-- Chunks outstanding at most: LEDGER_CHUNKS of host/ledger.h.
local CHUNKS = 64

--- @type Seat
local Seat = {}
Seat.__index = Seat

local M = { Seat = Seat, CHUNKS = CHUNKS }

function M.new(scheduler, number)
  return setmetatable({
    scheduler = scheduler,
    number = number,
    outstanding = 0,
    tasks = 0, -- done, by all who sat here
    restarts = 0,
    idle_deaths = 0, -- in a row, of processes that ran nothing
    busy_before = 0, -- seconds, of the predecessors
    bytes_in_before = 0,
    bytes_out_before = 0,
  }, Seat)
end

-- ---------------------------------------------------------------- starting

local function spawn_options(self, serial)
  return {
    path = package.path,
    cpath = package.cpath,
    arg = _G.arg,
    number = self.number,
    size = self.scheduler.size,
    serial = serial,
  }
end

local function send_init(self, handle)
  local s = self.scheduler
  local bytes, message = host.pack(s.session, {}, "initializer", false,
    s.initializer, s.initargs)
  if not bytes then
    errors.raise("encode", message)
  end
  handle:send_init(bytes)
end

local function fork(self, serial)
  local s = self.scheduler
  if s.start_method == "spawn" then
    return host.fork(nil, spawn_options(self, serial))
  end
  local options = {
    number = self.number,
    size = s.size,
    serial = serial,
    initializer = s.initializer,
    initargs = s.initargs,
  }
  return host.fork(function(link)
    worker.forked(link, s.session, options)
  end)
end

--- Starts a worker.
-- @param view what it will know, from session:snapshot just before
-- @return true, or nil, message
function Seat:start(view)
  local s = self.scheduler
  local serial = s:next_serial()
  local handle, message = fork(self, serial)
  if not handle then
    return nil, message
  end
  local added, why = s.poller:add(handle, self.number)
  if not added then
    return nil, why
  end
  self.handle = handle
  self.view, self.serial = view, serial
  self.chunks, self.head, self.tail = {}, 1, 0
  self.chunk_serial = 0
  self.outstanding = 0
  self.scopes = {} -- of the calls whose function it has: id -> classes
  self.forget = {} -- call ids it need not keep any more
  self.registered = s.start_method == "spawn" and 0 or s.registered()
  self.environment = environment.version -- inherited, spawned or not
  self.taken = 0 -- tasks given to this process
  self.busy_seen, self.items_seen = 0, 0
  self.ready = s.initializer == nil
  self.retiring, self.told, self.doom, self.writing = nil, nil, nil, nil
  if s.initializer and s.start_method == "spawn" then
    send_init(self, handle)
  end
  self:flush()
  return true
end

--- Can it be given work?
function Seat:open()
  return self.handle and not self.retiring and not self.doom
end

--- Has it items that it could be killed over?
function Seat:at_work()
  return self.handle and not self.doom and self.outstanding > 0
end

-- ----------------------------------------------------------------- sending

local function copy_into(to, from)
  for id, class in next, from do
    to[id] = class
  end
  return to
end

function Seat:flush()
  local done = self.handle:flush()
  local writing = done == false
  if writing ~= (self.writing or false) then
    self.scheduler.poller:want_write(self.handle, self.number, writing)
    self.writing = writing
  end
end

local function push_chunk(self, chunk)
  self.tail = self.tail + 1
  self.chunks[self.tail] = chunk
  self.outstanding = self.outstanding + 1
  self.taken = self.taken + chunk.n
  local s = self.scheduler
  s.items_out = s.items_out + chunk.n
  s.stirred = true
  s:seat_busy(self)
  if chunk.call.timeout then
    s.timed = s.timed + 1
  end
end

local function pop_chunk(self)
  local chunk = self.chunks[self.head]
  self.chunks[self.head] = nil
  self.head = self.head + 1
  self.outstanding = self.outstanding - 1
  local known = self.scopes[chunk.call.id]
  if known and chunk.n == chunk.sent and next(chunk.scope) then
    copy_into(known, chunk.scope)
  end
  self.scheduler:chunk_over(self, chunk)
end

local function send_forgets(self)
  if self.forget[1] then
    for _, id in ipairs(self.forget) do
      self.handle:send_forget(id)
      self.scopes[id] = nil
    end
    self.forget = {}
  end
end

-- Values registered since this worker was made.
local function send_definitions(self)
  local s = self.scheduler
  for i = self.registered + 1, s.registered() do
    local ok, bytes = pcall(s.session.define, s.session, s.registered(i))
    if ok then
      self.handle:send_define(bytes)
    end
  end
  self.registered = s.registered()
end

-- Variables changed since this worker was made, or was last sent them.
local function send_environment(self)
  for _, text in ipairs(environment.since(self.environment)) do
    self.handle:send_environment(text)
  end
  self.environment = environment.version
end

local function prepare(self, call)
  send_forgets(self)
  if self.environment < environment.version then
    send_environment(self)
  end
  if self.registered < self.scheduler.registered() then
    send_definitions(self)
  end
  if call.kind ~= CALL and not self.scopes[call.id] then
    self.handle:send_function(call.id, call.bytes)
    self.scopes[call.id] = copy_into({}, call.scope)
    table.insert(call.seats, self)
  end
end

local function send_frame(self, call, scope, first, n)
  local s, handle = self.scheduler, self.handle
  self.chunk_serial = (self.chunk_serial + 1) & 0xffff
  local timed = call.timeout ~= nil
  if call.kind == CALL then
    handle:send_call(self.chunk_serial, 0, CALL, timed, call.seed,
      call.nth or 0, call.bytes or call.again())
    return 1
  end
  return handle:send_items(self.chunk_serial, call.id, call.kind, timed,
    call.seed, call.nth, s.session, scope, call.items, first, n, BUDGET)
end

--- Sends up to `want` items of the call. An item that cannot travel fails here.
-- @return whether there was any to send
function Seat:send(call, want)
  local first, n, tries = call:peek(want)
  if not first then
    return false
  end
  prepare(self, call)
  -- The worker has the classes that a chunk brings once it has all the items.
  local known = self.scopes[call.id]
  local scope = known and copy_into({}, known) or call.scope
  local ok, sent, message = pcall(send_frame, self, call, scope, first, n)
  if not ok then -- for want of memory: the first item's, as far as is known
    sent, message = 0, errors.text(sent)
  end
  call:advance(sent)
  if sent > 0 then
    push_chunk(self, {
      serial = self.chunk_serial,
      call = call,
      first = first,
      n = sent,
      done = 0,
      tries = tries,
      scope = scope,
      sent = sent,
      frozen = self.scheduler.frozen,
    })
  end
  if message then
    call:advance(1)
    self.scheduler:item_failed(call, first + sent,
      errors.new("encode", message))
  end
  return true
end

-- n items of the chunk are done.
local function completed(self, chunk, n)
  chunk.done = chunk.done + n
  self.tasks = self.tasks + n
  local s = self.scheduler
  s.items_out = s.items_out - n
  s.deaths, self.idle_deaths = 0, 0
end

local function answered(self, serial, done, ...)
  if done then
    self.tasks = self.tasks + 1
    self.taken = self.taken + 1
    self.scheduler.deaths, self.idle_deaths = 0, 0
    return true, ...
  end
  if done == false then
    local frozen = ...
    if frozen then
      self.scheduler:thaw(frozen)
    end
    self:expect_rest(self.handle:partial())
  end
  return done, serial
end

--- The short way of an apply where the pool does nothing else.
-- @return true, results; or false, serial: it was sent under that number, for
--   adopt; or nil: it cannot travel
function Seat:call(scope, f, ...)
  local serial = (self.chunk_serial + 1) & 0xffff
  self.chunk_serial = serial
  return answered(self, serial, self.handle:call(serial,
    self.scheduler.session, scope, limits.within(nil) and SHORT, f, ...))
end

--- May it be used?
function Seat:quiet()
  return self:open() and self.outstanding == 0 and not self.forget[1]
    and self.registered == self.scheduler.registered()
    and self.environment == environment.version
end

-- --------------------------------------------------------------- receiving

local function take_list(self, chunk)
  local call = chunk.call
  local list = call.over and {} or call.results
  local at = chunk.first + chunk.done
  local n, nils = self.handle:take_list(chunk.serial, self.scheduler.session,
    chunk.scope, list, at, chunk.n - chunk.done, NIL, chunk.done)
  if n > 0 then
    completed(self, chunk, n)
    self.scheduler:items_done(call, at, n, nils)
  end
end

local take = {}

local NOT_DUE = "a result where none is due"

function take.result(self, chunk, ...)
  if not chunk or chunk.call.kind ~= CALL then
    return take.protocol(self, chunk, NOT_DUE)
  end
  completed(self, chunk, 1)
  self.scheduler:values_done(chunk.call, table.pack(...))
  return true
end

function take.error(self, chunk, kind, message, traceback, value)
  local e = errors.new(kind, message, { traceback = traceback, value = value })
  if not self.ready and kind == "init" then
    self.scheduler:fail_start(e)
    return true
  elseif not chunk then
    return take.protocol(self, chunk, NOT_DUE)
  end
  if kind == "task" and value == nil and message ~= "nil" then
    e.value = message
  end
  local index = chunk.first + chunk.done
  completed(self, chunk, 1)
  self.scheduler:item_failed(chunk.call, index, e)
  return true
end

function take.undecodable(self, chunk, message)
  return take.error(self, chunk, "decode", message)
end

function take.ready(self, chunk)
  if self.ready then
    return take.protocol(self, chunk, "that it is ready, again")
  end
  self.ready = true
  return true
end

-- Its bytes cannot be trusted any more: the item at hand is lost.
function take.protocol(self, _, message)
  self:kill(nil, "sent " .. message)
  self.doom.untrusted = true
end

local function taken(self, chunk, what, ...)
  return what and take[what](self, chunk, ...)
end

local NO_CHUNK = { serial = 0, done = 0 }

local function take_next(self, chunk)
  local at = chunk or NO_CHUNK
  return taken(self, chunk, self.handle:take(at.serial,
    self.scheduler.session, at.scope, at.done))
end

-- Takes in whatever is whole.
local function frames(self)
  while self.handle and not (self.doom and self.doom.untrusted) do
    local chunk = self.ready and self.chunks[self.head] or nil
    if chunk and chunk.n > chunk.done and chunk.call.kind ~= CALL then
      take_list(self, chunk)
    end
    if chunk and chunk.done >= chunk.n then
      pop_chunk(self)
    elseif not take_next(self, chunk) then
      return
    end
  end
end

--- Its pipe can be read.
function Seat:receive()
  local more = self.handle:read()
  frames(self)
  self:expect_rest(self.handle and self.handle:partial())
  if more == nil and self.handle then
    -- Its end closes the pipe, and so may a task. The pidfd will tell.
    self.scheduler.poller:forget_read(self.handle, self.number)
    self:watch_until("closed_at", EOF_GRACE)
  end
end

--- A chunk that call has sent goes the usual way from here.
function Seat:adopt(call, serial)
  call:advance(1)
  push_chunk(self, {
    serial = serial,
    call = call,
    first = 1,
    n = 1,
    done = 0,
    tries = 0,
    scope = call.scope,
    frozen = self.scheduler.frozen,
  })
  self:flush()
  frames(self)
end

--- Takes in what it has finished, even where it has not written it yet.
-- @return whether it has come any further since the last look
function Seat:look()
  if self.outstanding == 0 then
    return false
  end
  local news = self.handle:look()
  if news then
    frames(self)
    self:expect_rest(self.handle:partial())
  end
  local chunk, index = self:running()
  if chunk ~= self.seen_chunk or index ~= self.seen_index then
    self.seen_chunk, self.seen_index = chunk, index
    news = true
  end
  return news or not chunk and self.outstanding > 0
end

-- ------------------------------------------------------------- taking back

--- What it is running: the item claimed last, where that has no result yet.
-- (Those before it are done, whether or not their results have come in.)
-- @return its chunk, its index; nothing where it runs none
function Seat:running()
  for i = self.tail, self.head, -1 do
    local chunk = self.chunks[i]
    local claimed = self.handle:claimed(chunk.serial)
    if claimed > chunk.done then
      return chunk, chunk.first + math.min(claimed, chunk.n) - 1
    elseif claimed > 0 then
      return
    end
  end
end

--- Takes back the chunk's items from number `keep` on, but for those started.
-- @return index of the first, how many
function Seat:revoke(chunk, keep)
  local n = math.min(chunk.n, self.handle:revoke(chunk.serial, keep))
  local first, count = chunk.first + n, chunk.n - n
  chunk.n = n
  self.taken = self.taken - count
  self.scheduler.items_out = self.scheduler.items_out - count
  return first, count
end

--- Takes back all that has not been started.
function Seat:revoke_all()
  for i = self.tail, self.head, -1 do
    local chunk = self.chunks[i]
    local first, n = self:revoke(chunk, 0)
    if n > 0 then
      self.scheduler:returned(chunk.call, first, n, chunk.tries)
    end
  end
  self:skip_empty()
end

--- Chunks that have nothing left in them are over.
function Seat:skip_empty()
  while self.head <= self.tail do
    local chunk = self.chunks[self.head]
    if chunk.done < chunk.n then
      return
    end
    pop_chunk(self)
  end
end

-- ------------------------------------------------------------------ ending

local TERM, KILL, PIPE = 15, 9, 13

-- A time by which it must have ended, looked after by the scheduler's timers.
function Seat:watch_until(what, seconds)
  if not self:next_timer() then
    self.scheduler.dying = self.scheduler.dying + 1
  end
  self[what] = host.clock() + seconds
end

--- When something must be done about its not having ended, or about a frame of
-- its; nil where nothing.
function Seat:next_timer()
  return self.kill_at or self.closed_at or self.rest_at
end

--- A frame's rest is still to come, or is not any more.
function Seat:expect_rest(on)
  if self.kill_at or self.closed_at then
    return
  elseif on then
    self:watch_until("rest_at", STALL)
  elseif self.rest_at then
    self.rest_at = nil
    self.scheduler.dying = self.scheduler.dying - 1
  end
end

--- This process was stopped for that long.
function Seat:thaw(seconds)
  for _, what in ipairs { "kill_at", "closed_at", "rest_at" } do
    self[what] = self[what] and self[what] + seconds
  end
end

-- The rest of a frame is late. A worker that is not writing will never send it.
local function look_for_rest(self)
  if self.handle:stuck() then
    self.handle:discard()
    return take.protocol(self, nil, "a frame without its end")
  end
  frames(self)
  self:expect_rest(self.handle and self.handle:partial())
end

--- That time has come.
function Seat:overdue()
  if self.kill_at then
    self.kill_at = math.huge
    self.handle:kill(KILL)
  elseif not self.closed_at then
    look_for_rest(self)
  else
    self:kill(nil, "closed its pipes")
  end
end

--- Kills the worker. The item it is running, if any, fails with `e`, or as
-- lost; nothing else is.
-- @param e error object, or nil
-- @string[opt] why for the text of a lost item
function Seat:kill(e, why)
  if self.doom then
    return
  end
  self:revoke_all()
  self.doom = { error = e, why = why }
  self.scheduler:seat_busy(self)
  self:watch_until("kill_at", self.scheduler.grace)
  self.handle:kill(TERM)
end

--- Kills it only if item `index` of the call is what it runs now, after taking
-- back all that it has not started. Returns whether it did.
function Seat:kill_item(call, index, e)
  self:revoke_all()
  local chunk, running = self:running()
  if not chunk or chunk.call ~= call or running ~= index then
    return false
  end
  self:kill(e)
  return true
end

--- No more work: it ends by itself.
function Seat:retire()
  self.retiring, self.told = true, true
  self.scheduler:seat_busy(self)
  self.handle:finish()
end

local function death_text(self, pid, exitcode, signal)
  local who = ("worker %d (pid %d)"):format(self.number, pid)
  if self.doom and self.doom.why then
    return ("%s %s and was killed"):format(who, self.doom.why)
  elseif not signal then
    return ("%s exited with status %d"):format(who, exitcode)
  end
  return ("%s killed by %s (%d)%s"):format(who, host.signal_name(signal),
    signal, signal == KILL and ", possibly out of memory" or "")
end

local function lost_error(self, pid, exitcode, signal, index)
  local text = death_text(self, pid, exitcode, signal)
  return errors.new("lost", ("%s%s while running %s"):format(text,
    text:find(",", 1, true) and "," or "",
    index and "item " .. index or "a task"),
    { pid = pid, exitcode = exitcode, signal = signal })
end

-- What was started and has no result is lost, what was not goes back.
local function settle_chunk(self, chunk, claimed, death)
  local s, call = self.scheduler, chunk.call
  s.items_out = s.items_out - (chunk.n - chunk.done)
  claimed = math.max(chunk.done, math.min(claimed, chunk.n))
  for i = chunk.first + chunk.done, chunk.first + claimed - 1 do
    local e = self.doom and self.doom.error
    if e then
      s:item_failed(call, i, e)
    else
      s:item_lost(call, i, chunk.tries,
        lost_error(self, death.pid, death.exitcode, death.signal,
          call.kind ~= CALL and i or nil))
    end
  end
  if claimed < chunk.n then
    s:returned(call, chunk.first + claimed, chunk.n - claimed, chunk.tries)
  end
end

-- What it had finished counts, sent or not.
local function read_rest(self)
  local untrusted = self.doom and self.doom.untrusted
  for _ = 1, untrusted and 0 or LAST_READS do
    local more = self.handle:read()
    frames(self)
    if not more then
      break
    end
  end
  self.handle:discard()
  if self.handle:salvage() then
    if untrusted then
      self.doom.untrusted = nil
    end
    frames(self)
  end
end

--- Its share of the statistics stays.
function Seat:keep_figures()
  local received, sent = self.handle:bytes()
  self.busy_before = self.busy_before + self.handle:busy()
  self.bytes_in_before = self.bytes_in_before + received
  self.bytes_out_before = self.bytes_out_before + sent
end

--- The process has ended: settles what it had, and frees the seat.
-- @return table pid, exitcode, signal, text, doom, retired, ready, idle
function Seat:ended()
  local pid = self.handle:pid()
  read_rest(self)
  local left = {}
  for i = self.head, self.tail do
    local chunk = self.chunks[i]
    table.insert(left, { chunk, self.handle:claimed(chunk.serial) })
  end
  local idle = not self:running()
  self.scheduler.poller:remove(self.handle, self.number)
  local exitcode, signal = self.handle:reap()
  local death = {
    pid = pid, exitcode = exitcode, signal = signal,
    text = death_text(self, pid, exitcode, signal),
    doom = self.doom, retired = self.retiring, ready = self.ready,
    idle = idle,
  }
  if signal == PIPE then
    host.follow_sigpipe()
  end
  self:keep_figures()
  self.handle:close()
  self.handle = nil
  self.scheduler:seat_busy(self)
  for i = #left, 1, -1 do -- what comes back first goes out last
    settle_chunk(self, left[i][1], left[i][2], death)
  end
  while self.outstanding > 0 do
    pop_chunk(self)
  end
  if self:next_timer() then
    self.scheduler.dying = self.scheduler.dying - 1
    self.kill_at, self.closed_at, self.rest_at = nil, nil, nil
  end
  return death
end

--- @return pid, tasks, busy (seconds), bytes_in, bytes_out, restarts
function Seat:stats()
  local h = self.handle
  local received, sent = 0, 0
  if h then
    received, sent = h:bytes()
  end
  return {
    pid = h and h:pid(),
    tasks = self.tasks,
    busy = self.busy_before + (h and h:busy() or 0),
    bytes_in = self.bytes_in_before + received,
    bytes_out = self.bytes_out_before + sent,
    restarts = self.restarts,
  }
end

return M
