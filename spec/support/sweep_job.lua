-- SPDX-License-Identifier: MIT
-- The job whose processes are killed at every system call: a pool with some of
-- everything. Status 0: all was right; 1: an error of a kind that a killed
-- worker explains; 2: anything else.
local luapool = require "luapool"

local function square(x) return x * x end

local expected = { lost = true, init = true, broken = true }

-- What failed, unless it is no wonder.
local function judge(e)
  if type(e) == "table" and expected[e.kind] then
    io.stderr:write(e.kind, "\n")
    os.exit(1)
  end
  io.stderr:write("unexpected: ", tostring(e), "\n")
  os.exit(2)
end

local function check(value, what)
  if not value then error("wrong result: " .. what, 0) end
end

local function job()
  local pool <close> = luapool.Pool(2)
  local list = {}
  for i = 1, 200 do list[i] = i end
  local squares, errs = pool:map(square, list,
    { chunksize = 20, on_error = "collect" })
  for i = 1, 200 do
    if errs[i] then judge(errs[i]) end
    check(squares[i] == i * i, i)
  end
  local future = pool:apply_async(string.rep, { "x", 300000 })
  check(pool:apply(square, { 7 }) == 49, "apply")
  check(#future:get() == 300000, "a large result")
end

local ok, e = pcall(job)
if not ok then judge(e) end
