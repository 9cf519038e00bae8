-- SPDX-License-Identifier: MIT
-- What finalizers do to a pool: they run at any allocation, so also in the
-- middle of the pool's own work. Here the collector is made to run a whole
-- cycle at each of its steps, and a finalizer acts at the n-th of them, for
-- every n of some calls.
local faults = require "spec.support.faults"

-- Ends with a line for each outcome that there should not be, and how many
-- collections there were.
local job = [[
local first, second, others
local actions = {
  terminate = function() first:terminate() end,
  close = function() first:close() end,
  restart = function() first:restart() end,
  poll = function() first:poll(0) end,
  ["close and terminate"] = function() first:close() first:terminate() end,
  apply = function() first:apply(math.abs, {-1}) end,
  map = function() first:map(math.abs, {1, 2, 3}) end,
  apply_async = function() first:apply_async(math.abs, {-1}) end,
  wait = function() luapool.wait(others, {timeout = 0}) end,
}

local act, left, result
local mt = {}
local function arm() setmetatable({}, mt) end
function mt.__gc()
  left = left and left - 1
  if left == 0 then
    left = nil
    local ok, e = pcall(act)
    result = ok and "done" or type(e) == "table" and e.kind or e
  elseif left then
    arm()
  end
end

local kinds = {}
local function try(kind, f, ...)
  local ok, e = pcall(f, ...)
  local got = ok and "ok" or type(e) == "table" and e.kind or tostring(e)
  if got ~= "ok" and got ~= "closed" and got ~= "terminated" and got ~= kind
  then
    kinds[#kinds + 1] = got
  end
  return ok and e
end

local bodies = {}

function bodies.calls()
  local square = faults.square
  try(nil, first.apply, first, square, {3})
  try(nil, first.map, first, square, {1, 2, 3, 4, 5, 6})
  local future = try(nil, first.apply_async, first, square, {3})
  if future then
    try(nil, future.get, future)
  end
  try(nil, function() for _ in first:imap(square, {1, 2, 3}) do end end)
  try(nil, first.restart, first)
  try("lost", first.apply, first, os.exit, {1})
  try(nil, first.close, first)
  try(nil, first.join, first, 10)
end

function bodies.waits()
  local square = faults.square
  others = {}
  for i, pool in ipairs {first, second, first} do
    others[#others + 1] = try(nil, pool.apply_async, pool, square, {i}) or nil
  end
  try(nil, luapool.wait, others)
  try(nil, function() for _ in luapool.as_completed(others) do end end)
end

local function starting(n)
  first, second, kinds = luapool.Pool(2), luapool.Pool(1), {}
  others, result = {}, nil
  collectgarbage("incremental", 1, 1000, 40) -- a whole cycle each time
  collectgarbage()
  left = n
  arm()
end

local function ending()
  local fired = left == nil
  left = nil
  collectgarbage("incremental", 200, 100, 13)
  try(nil, first.terminate, first)
  try(nil, second.terminate, second)
  return fired
end

local refused = "^the pool is at work: a finalizer cannot "
local n, from = 0, leaks.snapshot()
act = actions["ACTION"]
repeat
  n = n + STRIDE
  starting(n)
  bodies.BODY()
  local fired = ending()
  if kinds[1] or fired and result ~= "done" and result ~= "closed"
    and not result:gsub("^.-:%d+: ", ""):find(refused) then
    print(n, result, table.concat(kinds, "; "))
  end
  leaks.check(from)
until not fired
print(n > 50)
]]

local actions = { "terminate", "close", "restart", "poll",
  "close and terminate", "apply", "map", "apply_async", "wait" }

describe("a finalizer in the middle of a pool's work", function()
  faults.guard(before_each, after_each)

  local function harmless(action, body, stride)
    local text = job:gsub("ACTION", action):gsub("BODY", body)
      :gsub("STRIDE", stride)
    local result = faults.run(text, { limit = 100 })
    assert.are.equal("", result.stderr)
    assert.are.equal("true\n", result.stdout)
  end

  for _, action in ipairs(actions) do
    for _, body in ipairs { "calls", "waits" } do
      it(("may %s, during %s"):format(action, body), function()
        harmless(action, body, 11)
      end)
      it(("may %s, during %s, at each step #slow"):format(action, body),
        function() harmless(action, body, 1) end)
    end
  end
end)
