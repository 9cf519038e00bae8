-- SPDX-License-Identifier: MIT
-- build/luapool spec/soak.lua [SECONDS [SEED]], or `make soak`: random calls on
-- random pools while workers are killed, stopped, cancelled and timed out. Each
-- result is compared with what the plain loop gives; each failure must be one
-- that something was done for; and once a pool is gone so are its processes,
-- its descriptors and its memory. Ends with "N passed, N failed".
--
-- The seed decides what is done; when it happens is up to the machine.

package.cpath = "build/faults/?.so;" .. package.cpath
local luapool = require "luapool"
local harm = require "harm" -- of spec/support: kill(pid, signal), trim()
local clock = require("luapool.host").clock

local seconds = tonumber(arg[1]) or 600
local seed = math.tointeger(arg[2]) or os.time()
math.randomseed(seed)
local random = math.random
io.stdout:setvbuf("line")
print(("soak: %d s, seed %d"):format(seconds, seed))

local KILL, SEGV, STOP, CONT, TERM = 9, 11, 19, 18, 15
local HANG = 60 -- seconds after which a call is held to hang

-- ------------------------------------------------------------------- counts

local passed, failed = 0, 0
local counts = {} -- what was done -> how often
local step = "start"

local function count(what, n)
  counts[what] = (counts[what] or 0) + (n or 1)
end

local function check(ok, text, ...)
  if ok then
    passed = passed + 1
  else
    failed = failed + 1
    print(("FAILED (seed %d, %s): "):format(seed, step) .. text:format(...))
  end
  return ok
end

-- -------------------------------------------------------------- the machine

local function read(name)
  local f = io.open(name)
  local text = f and f:read("a")
  return text, f and f:close()
end

local function descriptors()
  local n = 0
  for fd = 0, 255 do
    local f = io.open("/proc/self/fdinfo/" .. fd)
    if f then
      n = n + 1
      f:close()
    end
  end
  return n
end

local function pid()
  return read("/proc/self/stat"):match("^%d+")
end

local function children()
  return (read(("/proc/%s/task/%s/children"):format(pid(), pid())))
end

-- KiB that are this process's own, without what malloc keeps.
local function memory()
  collectgarbage()
  collectgarbage()
  harm.trim()
  local all = read("/proc/self/smaps_rollup")
  return tonumber(all:match("Private_Dirty: +(%d+)"))
end

-- Seconds that this process was ready to run and another ran instead.
local function waited()
  local ns = (read("/proc/self/schedstat") or ""):match("^%d+ (%d+)")
  return (tonumber(ns) or 0) / 1e9
end

-- A quick task passes its limit only where the machine is busy with others,
-- which this process has noticed then: it has waited so long in one call.
local BUSY = 0.05

-- --------------------------------------------------------------- the tasks

-- They need nothing but their argument, so that any worker can run them. An
-- item is {i = index, n = how much of it, what = what to do}.
local function task(item)
  local what, n = item.what, item.n
  if what == "work" then
    for _ = 1, n * 100 do
      n = n + 1
    end
    n = 0
  elseif what == "error" then
    error("task " .. item.i, 0)
  elseif what == "error table" then
    error({ code = item.i })
  elseif what == "exit" then
    os.exit(n % 2 == 0)
  elseif what == "hang" then
    while true do end
  elseif what == "die" then
    require("harm").kill(0, 9) -- the whole group: itself
  elseif what == "nil" then
    return nil
  elseif what == "big" then
    return { i = item.i, s = item.s and item.s:reverse() or ("x"):rep(n * 997) }
  end
  local t = { i = item.i }
  for k = 1, n % 50 do
    t[k] = k * item.i
  end
  return t
end

-- What task(item) gives, or nil and the kinds of error that may come.
local function expected(item)
  local what = item.what
  if what:find("^error") then
    return nil, "task"
  elseif what == "exit" or what == "die" then
    return nil, "lost"
  elseif what == "hang" then
    return nil, "timeout"
  end
  return task(item)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for k, v in pairs(a) do
    if not same(v, b[k]) then
      return false
    end
  end
  for k in pairs(b) do
    if a[k] == nil then
      return false
    end
  end
  return true
end

local quiet = { "plain", "plain", "plain", "plain", "work", "nil", "big" }
local rough = { "error", "error table", "exit", "die", "hang" }

-- A list of items; of every `one_in` about one misbehaves.
local function items(most, one_in)
  local list = {}
  for i = 1, random(0, most) do
    local what = quiet[random(#quiet)]
    if one_in and random(one_in) == 1 then
      what = rough[random(#rough)]
    end
    list[i] = { i = i, n = random(0, 200), what = what }
    if what == "big" and random(200) == 1 then
      list[i].s = ("big" .. i):rep(random(1, 300000))
    end
  end
  return list
end

-- ---------------------------------------------------------------- the pools

local pools = {}

local function new_pool()
  local o = {
    processes = random(1, 4),
    start_method = random(2) == 1 and "fork" or "spawn",
    max_restarts = 1000,
    maxtasksperchild = random(4) == 1 and random(1, 300) or nil,
  }
  count("pools, " .. o.start_method)
  local pool = luapool.Pool(o)
  table.insert(pools, { pool = pool, disturbed = 0, before = 0,
    at_start = 0, stopped = {} })
  return pools[#pools]
end

local function remove_pool(p)
  for i = #pools, 1, -1 do
    if pools[i] == p then
      table.remove(pools, i)
    end
  end
end

-- Does something to one of its workers.
local function disturb(p)
  local workers = p.pool:stats()
  local worker = workers[random(#workers)]
  if not worker.pid then
    return
  end
  local what = random(6)
  if what <= 2 then
    local signals = { KILL, SEGV, TERM }
    p.disturbed = p.disturbed + 1
    count("kills")
    pcall(harm.kill, worker.pid, signals[random(#signals)])
  elseif what == 3 and pcall(harm.kill, worker.pid, STOP) then
    count("stops")
    table.insert(p.stopped, worker.pid)
  end
end

-- Kills during this call and the one before, whose last may take effect now.
local function recent(p)
  return p.disturbed - p.before
end

-- Is this a limit that a good task passed since the machine was busy?
local function late(p, e)
  if e.kind == "timeout" and waited() - p.waited > BUSY then
    count("good tasks late on a busy machine")
    return true
  end
end

local function go_on(p)
  while p.stopped[1] do
    pcall(harm.kill, table.remove(p.stopped), CONT)
  end
end

-- Waits for a future, and does things to the pool meanwhile.
local function finish(p, future, disturbances)
  local limit = clock() + HANG
  while not future:wait(random() / 50) and clock() < limit do
    if disturbances > 0 then
      disturbances = disturbances - 1
      disturb(p)
    end
    if random(4) == 1 then
      go_on(p)
    end
  end
  go_on(p)
  if check(future:ready(), "a call hangs: %s", tostring(p.pool)) then
    return true
  end
  p.pool:terminate()
  remove_pool(p)
end

-- ---------------------------------------------------------------- the calls

-- Compares the results of a map, given how often workers were killed from
-- outside meanwhile.
local function compare(p, list, results, problems, kills)
  local wrong, lost = 0, 0
  local text = ""
  for i, item in ipairs(list) do
    local value, kind = expected(item)
    local e = problems[i]
    local ok
    if e and e.kind == "lost" and kind ~= "lost" then
      lost = lost + 1
      ok = results[i] == nil
    elseif kind then
      ok = e and (e.kind == kind) and results[i] == nil
    elseif e then
      ok = late(p, e) and results[i] == nil
    else
      ok = same(results[i], value)
    end
    if not ok then
      wrong = wrong + 1
      text = ("item %d (%s): %s, %s"):format(i, item.what,
        tostring(results[i]), tostring(e))
    end
  end
  check(wrong == 0, "%d wrong results of %d; %s", wrong, #list, text)
  check(lost <= kills, "%d items lost, %d kills", lost, kills)
  count("items", #list)
  count("items lost to kills", lost)
end

local calls = {}

function calls.map(p)
  local rude = random(3) == 1
  local list = items(rude and 60 or 2000, rude and 8)
  local future = p.pool:map_async(task, list, {
    on_error = "collect",
    timeout = rude and 0.2 or nil,
    chunksize = random(3) == 1 and random(1, 200) or nil,
  })
  if finish(p, future, random(0, 3)) then
    local results, problems = future:get()
    compare(p, list, results, problems, recent(p))
  end
end

-- A timeout is as safe as none where nothing takes long; and retries find a
-- result for what was lost.
function calls.retries(p)
  local list = items(300)
  local future = p.pool:map_async(task, list, { retries = 10 })
  if finish(p, future, 2) then
    local ok, results = pcall(future.get, future)
    check(ok, "%s", tostring(results))
    compare(p, list, ok and results or {}, {}, 0)
  end
end

function calls.imap(p)
  local list = items(300)
  local ordered = random(2) == 1
  local stop = random(3) == 1 and random(0, #list) or nil
  local n, wrong, seen = 0, 0, {}
  for i, v in p.pool[ordered and "imap" or "imap_unordered"](
    p.pool, task, list, { buffersize = random(2) == 1 and 20 or nil }) do
    n = n + 1
    if (ordered and i ~= n) or seen[i] or not same(v, (expected(list[i]))) then
      wrong = wrong + 1
    end
    seen[i] = true
    if n == stop then
      break
    end
  end
  check(wrong == 0, "%d wrong results of an imap", wrong)
  check(n == (stop and stop > 0 and stop or #list), "%d of %d items", n, #list)
  count("items", n)
end

local function check_one(p, item, future)
  local value, kind = expected(item)
  local ok, v = pcall(future.get, future, HANG)
  if ok then
    check(not kind and same(v, value), "%s: a wrong result", item.what)
  else
    check(v.kind == kind or v.kind == "lost" or late(p, v), "%s: %s",
      item.what, tostring(v))
    count(v.kind == kind and "failed as they should" or "lost to kills")
  end
end

function calls.apply(p)
  local list, futures = items(200, 40), {}
  for i, item in ipairs(list) do
    futures[i] = p.pool:apply_async(task, { item }, { timeout = 0.3 })
  end
  if random(2) == 1 then
    disturb(p)
    go_on(p)
  end
  if futures[1] and random(2) == 1 then
    local done, rest = luapool.wait(futures,
      { timeout = HANG, return_when = "FIRST_COMPLETED" })
    check(#done + #rest == #futures, "futures went astray in wait")
  end
  for i = #list, 1, -1 do
    check_one(p, list[i], futures[i])
  end
  count("items", #list)
end

-- A cancelled call stays so, and costs its neighbours nothing.
function calls.cancel(p)
  local list, futures, cancelled = items(60), {}, {}
  for i, item in ipairs(list) do
    futures[i] = p.pool:apply_async(task, { item })
  end
  for _ = 1, #list // 3 do
    local i = random(#list)
    cancelled[i] = futures[i]:cancel() or cancelled[i]
    count("cancels")
  end
  for i, item in ipairs(list) do
    if cancelled[i] then
      check(futures[i]:cancelled(), "not cancelled")
    else
      check_one(p, item, futures[i])
    end
  end
end

function calls.deadline(p)
  local list = items(200)
  list[#list + 1] = { i = #list + 1, n = 0, what = "hang" }
  local ok, e = pcall(p.pool.map, p.pool, task, list, { deadline = 0.15 })
  check(not ok and e.kind == "timeout", "a deadline: %s", tostring(e))
  local wrong = 0
  for i, v in pairs(not ok and e.results or {}) do
    if type(i) == "number" and not same(v, (expected(list[i]))) then
      wrong = wrong + 1
    end
  end
  check(wrong == 0, "%d wrong results left by a deadline", wrong)
  count("deadlines")
end

function calls.restart(p)
  p.pool:restart()
  count("restarts")
end

-- It ends with work at hand.
function calls.terminate(p)
  local future = p.pool:map_async(task, items(500), {})
  p.pool:terminate()
  remove_pool(p)
  local ok, e = pcall(future.get, future, HANG)
  check(ok or e.kind == "terminated", "terminated: %s", tostring(e))
  count("terminated")
end

function calls.close(p)
  local list = items(500)
  local future = p.pool:map_async(task, list)
  p.pool:close()
  local ok, e = pcall(p.pool.join, p.pool, HANG)
  check(ok, "join: %s", tostring(e))
  remove_pool(p)
  compare(p, list, future:get(0), {}, 0)
  count("closed")
end

local names = { "map", "map", "map", "map", "retries", "imap", "imap", "apply",
  "apply", "cancel", "deadline", "restart", "terminate", "close" }

-- ------------------------------------------------------------------ the run

local fds, others = descriptors(), children()
local begin = clock()
local rounds = 0
local least = { math.huge, math.huge, math.huge, math.huge } -- of a quarter

-- Without a pool there must be nothing of one.
local function quiesce()
  step = "round " .. rounds
  for i = #pools, 1, -1 do
    pools[i].pool:close()
    local ok, e = pcall(pools[i].pool.join, pools[i].pool, HANG)
    check(ok, "join: %s", tostring(e))
    table.remove(pools, i)
  end
  check(descriptors() == fds, "%d descriptors, not %d", descriptors(), fds)
  check(children() == others, "children: %s", children())
  local quarter = math.min(4, (clock() - begin) * 4 // seconds + 1)
  least[quarter] = math.min(least[quarter], memory())
  count("rounds")
end

while clock() - begin < seconds do
  rounds = rounds + 1
  local till = clock() + random() * math.min(10, seconds / 10)
  for i = 1, 1000000 do
    local p = #pools > 0 and random(10) > 1 and pools[random(#pools)]
      or #pools < 3 and new_pool() or pools[random(#pools)]
    local name = names[random(#names)]
    step = ("round %d, call %d, %s"):format(rounds, i, name)
    count("calls")
    p.before, p.at_start = p.at_start, p.disturbed
    p.waited = waited()
    local ok, e = xpcall(calls[name], debug.traceback, p)
    if not check(ok, "%s", tostring(e)) then
      pcall(p.pool.terminate, p.pool)
      remove_pool(p)
    end
    if clock() > till then
      break
    end
  end
  quiesce()
end

step = "end"
local early, later = math.min(least[1], least[2]), math.min(least[3], least[4])
check(later - early < 1024, "memory grew from %d to %d KiB", early, later)

local lines = {}
for what, n in pairs(counts) do
  table.insert(lines, ("%9d %s"):format(n, what))
end
table.sort(lines, function(a, b) return a:sub(11) < b:sub(11) end)
print(table.concat(lines, "\n"))
print(("%.0f, %.0f, %.0f, %.0f KiB of memory in the quarters of the time; "
  .. "%d descriptors at the start and after each round"):format(
  least[1], least[2], least[3], least[4], fds))
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0)
