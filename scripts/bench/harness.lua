-- What the benchmarks share: measuring in interleaved rounds, and the table.
--
-- A figure is a table of functions that each measure one role once, seconds of
-- one operation as a rule: `luapool`, and beside it `limit` (the same work done
-- by bare system calls) and `peer` (somebody else's library). They take turns,
-- round after round, so that a slow moment of the machine hits all of them. A
-- ratio is the median of the ratios of the rounds.
-- SPDX-License-Identifier: MIT
local host = require "luapool.host"
local luapool = require "luapool"

local M = {clock = host.clock, rounds = 7}

local UNITS = {us = 1e6, ms = 1e3, s = 1, ns = 1e9, KB = 1, x = 1}
local ROLES = {"luapool", "limit", "peer"}
local LINE = "%-37s %11s %11s %11s  %-17s %-8s %s"

-- The directories of this file, and of the programs built beside the host.
local scripts = arg[0]:match("^(.*/)") or "./"
local interpreter = 0
while arg[interpreter - 1] do interpreter = interpreter - 1 end
M.interpreter = arg[interpreter]
local tools = (M.interpreter:match("^(.*/)") or "./") .. "bench/"

M.raw = assert(package.loadlib(tools .. "rawfork.so", "luaopen_rawfork"))()

local cpus = M.raw.cpus()

-- Where the two processes of a round trip run. One process wakes another of the
-- same CPU several times as fast as one of an idle CPU, so that a figure means
-- little unless both sides of it were placed alike.
M.places = {{name = "one CPU", parent = cpus[1], worker = cpus[1]}}
if cpus[2] then
  M.places[2] = {name = "two CPUs", parent = cpus[1], worker = cpus[2]}
end

--- A pool whose workers run where `place` says; this process too, until `free`.
function M.pool(processes, place)
  M.raw.pin(place.parent)
  return luapool.Pool{processes, initializer = M.raw.pin,
    initargs = {place.worker}}
end

function M.free()
  M.raw.pin(table.unpack(cpus))
end

--- Mean seconds of one of n calls of `call(i)`.
function M.each(n, call)
  local start = M.clock()
  for i = 1, n do call(i) end
  return (M.clock() - start) / n
end

local function program(...)
  local words = table.concat({...}, " ")
  local output <close> = assert(io.popen(words))
  local seconds = output:read("n")
  return assert(output:close() and seconds, words .. " failed")
end

--- Seconds of a raw round trip of so many bytes.
function M.pipe(request, answer, rounds, place)
  return program(tools .. "rawpipe", request, answer, rounds,
    place.parent, place.worker)
end

--- Seconds of one task of a job of peers.py; nil where there is no Python.
function M.python(job, count, place)
  if not M.has_python then return nil end
  return program("python3", scripts .. "peers.py", job, count,
    place and place.parent or "", place and place.worker or "")
end

M.has_python = os.execute("python3 -c '' 2>/dev/null")

--- Bytes to and from the workers that one of n calls of `call(i)` takes.
function M.bytes(pool, n, call)
  local before = pool:stats()
  for i = 1, n do call(i) end
  local after = pool:stats()
  return (after.bytes_out - before.bytes_out) // n,
    (after.bytes_in - before.bytes_in) // n
end

function M.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  if #sorted % 2 == 1 then return sorted[middle + 1] end
  return (sorted[middle] + sorted[middle + 1]) / 2
end

-- samples[role][round], each role first in its turn.
local function sample(figure, rounds)
  local samples = {luapool = {}, limit = {}, peer = {}}
  for round = 1, rounds do
    for turn = 0, #ROLES - 1 do
      local role = ROLES[(round + turn) % #ROLES + 1]
      local measured = figure[role] and figure[role]()
      samples[role][round] = measured or nil
    end
  end
  return samples
end

local function ratio(over, under)
  local ratios = {}
  for round = 1, #over do ratios[round] = over[round] / under[round] end
  return M.median(ratios)
end

-- One goal: what was reached, as text, and by which factor it was missed.
local GOALS = {
  limit = function(samples, most)
    local reached = ratio(samples.luapool, samples.limit)
    return ("%.2f x limit"):format(reached), ("<= %g"):format(most),
      reached / most
  end,
  peer = function(samples, least)
    local reached = ratio(samples.peer, samples.luapool)
    return ("%.2f x faster"):format(reached), (">= %g"):format(least),
      least / reached
  end,
  most = function(samples, most, unit)
    return "", ("<= %g"):format(most * UNITS[unit]),
      M.median(samples.luapool) / most
  end,
}

local function judge(name, samples, target, unit)
  local compared = name == "most" and "luapool" or name
  if #samples[compared] == 0 then return "", "", "not measured" end
  local reached, wanted, factor = GOALS[name](samples, target or 1, unit)
  if not target then return reached, "", "" end
  if factor <= 1 then return reached, wanted, "met" end
  return reached, wanted, ("missed by %.0f%%"):format(100 * (factor - 1))
end

local function amount(samples, unit)
  if #samples == 0 then return "" end
  local value = M.median(samples) * UNITS[unit]
  local decimals = math.max(0, 2 - math.floor(math.log(value, 10)))
  return ("%%.%df %%s"):format(decimals):format(value, unit)
end

local function row(...)
  print((LINE:format(...):gsub("%s+$", "")))
end

function M.heading()
  row("figure", "luapool", "limit", "peer", "ratio", "target", "")
end

--- A remark on the figure above it.
function M.note(text)
  print("  " .. text)
end

--- Measures one figure and prints its lines of the table, one for each goal.
-- figure: name, unit, luapool, limit, peer, rounds, and goals: a list of
-- {"limit", at most so many times its seconds}, {"peer", at least so many times
-- as fast} or {"most", absolute}; without a number it is only shown.
function M.figure(figure)
  local samples = sample(figure, figure.rounds or M.rounds)
  local cells = {figure.name}
  for i, role in ipairs(ROLES) do
    cells[i + 1] = amount(samples[role], figure.unit)
  end
  for _, goal in ipairs(figure.goals or {}) do
    row(cells[1], cells[2], cells[3], cells[4],
      judge(goal[1], samples, goal[2], figure.unit))
    cells = {"", "", "", ""}
  end
  if not figure.goals then
    row(cells[1], cells[2], cells[3], cells[4], "", "", "")
  end
  io.stdout:flush()
  return samples
end

return M
