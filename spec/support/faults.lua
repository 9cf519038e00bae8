-- SPDX-License-Identifier: MIT
-- For the specs of faults: programs of their own under strace, limits, shims
-- and signals, each under a hard limit, and what "only that task" means.
local errors = require "spec.support.errors"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local script = require "spec.support.script"

local M = {}

local LIMIT = 20 -- seconds a program, or a future, may take
local LINGER = 1 -- seconds after a program's end in which all of it must go

--- Where the programs for tests were built.
M.build = (os.getenv "LUAPOOL_BUILD" or "build") .. "/faults/"
package.cpath = package.cpath .. ";" .. M.build .. "?.so"

--- Signals by name.
M.signals = {
  HUP = 1, INT = 2, ABRT = 6, KILL = 9, USR1 = 10, SEGV = 11, TERM = 15,
  CONT = 18, STOP = 19, WINCH = 28,
}

local harm = require "harm"

--- Sends a signal to a process, or to a list of them.
function M.kill(pids, name)
  for _, pid in ipairs(type(pids) == "table" and pids or { pids }) do
    pcall(harm.kill, pid, M.signals[name])
  end
end

-- ------------------------------------------------------------ in this process

local pools = {} -- of the test at hand

--- A pool that ends with the test. (A `<close>` would take a failure for a
-- success, since busted's message handler returns no error.)
function M.pool(...)
  local pool = require "luapool".Pool(...)
  pools[#pools + 1] = pool
  return pool
end

-- Closes them, each within a limit.
local function end_pools()
  local failure
  while #pools > 0 do
    local pool = table.remove(pools)
    pool:close()
    local ok, e = pcall(pool.join, pool, 5)
    if not ok then
      failure = failure or e
      pool:terminate()
    end
  end
  if failure then error(failure, 0) end
end

--- Guards a block against leaks, and ends its pools first.
function M.guard(before_each, after_each)
  leaks.guard(before_each, after_each)
  leaks.finish(end_pools)
end

function M.square(x) return x * x end

--- {1, 2 ... n}
function M.numbers(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

--- The process ids of a pool's workers.
function M.pids(pool)
  local t = {}
  for i, worker in ipairs(pool:stats()) do t[#t + 1] = worker.pid or i end
  return t
end

function M.none_alive(pids)
  for _, pid in ipairs(pids) do
    if leaks.alive(pid) then return false end
  end
  return true
end

--- What get gives, under a hard limit.
function M.get(future, seconds)
  return future:get(seconds or LIMIT)
end

--- The error of a future that must fail, under a hard limit.
function M.failure(future, kind, seconds)
  local e = future:exception(seconds or LIMIT)
  if not errors.is(kind, e) then
    error(("expected an error of kind %s, got %s"):format(kind, tostring(e)), 2)
  end
  return e
end

--- What a worker's process waits in, a name of the kernel's; nil: it runs, or
-- this cannot be known here.
function M.waits_in(pid)
  local name = gate.read("/proc/" .. pid .. "/wchan")
  return name ~= "" and name ~= "0" and name or nil
end

--- Waits until that worker is in the middle of a write to a full pipe. This
-- process reads nothing meanwhile.
function M.wait_until_writing(pid)
  gate.eventually(function()
    return (M.waits_in(pid) or ""):find "pipe_write"
  end, nil, "a write to a full pipe")
end

--- The same until it waits for work.
function M.wait_until_idle(pid)
  gate.eventually(function()
    return (M.waits_in(pid) or ""):find "pipe_read"
  end, nil, "a wait for work")
end

--- Is wchan there?
function M.sees_waits()
  return lfs.attributes("/proc/self/wchan") ~= nil
end

local function all_alive(pool)
  pool:poll(0)
  local stats = pool:stats()
  for i = 1, #pool do
    local pid = stats[i] and stats[i].pid
    if not (pid and leaks.alive(pid)) then return false end
  end
  return true
end

--- The pool is at its full size, and works.
function M.sound(pool)
  gate.eventually(function() return all_alive(pool) end, 5,
    "every worker's replacement")
  local n = 4 * #pool
  local list = M.get(pool:map_async(M.square, M.numbers(n), 1))
  for i = 1, n do
    if list[i] ~= i * i then error("a wrong result after the fault", 2) end
  end
end

-- Everything but item `bad` must be there.
local function all_but(bad, n, results, errs)
  for i = 1, n do
    if i == bad then
      if results[i] ~= nil or errs[i] == nil then
        error(("item %d should have failed"):format(i), 3)
      end
    elseif errs[i] ~= nil or results[i] ~= i * i then
      error(("item %d: %s"):format(i, tostring(errs[i] or results[i])), 3)
    end
  end
end

--- Runs `fault` in the middle of one task of many. Only that task may fail,
-- each must have been run once, the pool must be sound afterwards.
-- @return the error of that task
function M.costs_one(pool, kind, fault, opts)
  local path, n, bad = gate.name(), 12, 6
  local square = M.square
  local function work(x)
    gate.mark(path)
    if x == bad then fault() end
    return square(x)
  end
  opts = opts or {}
  opts.on_error = "collect"
  local results, errs = M.get(pool:map_async(work, M.numbers(n), opts))
  all_but(bad, n, results, errs)
  if gate.count(path) ~= n then
    error(("%d runs of %d tasks"):format(gate.count(path), n), 2)
  end
  M.sound(pool)
  local e = errs[bad]
  if not errors.is(kind, e) or e.index ~= bad then
    error("not the error expected: " .. tostring(e), 2)
  end
  return e
end

-- ------------------------------------------------------------------ programs

--- Living processes with the mark in their environment: {pid = command}.
function M.marked(mark)
  local found = {}
  for name in lfs.dir("/proc") do
    if name:find("^%d+$") then
      local dir = "/proc/" .. name .. "/"
      if gate.read(dir .. "environ"):find(mark, 1, true) then
        found[math.tointeger(name)] = gate.read(dir .. "cmdline")
      end
    end
  end
  return found
end

local function words(list)
  local t = {}
  for i, word in ipairs(list) do t[i] = script.quote(word) end
  return table.concat(t, " ")
end

local function environment(mark, extra)
  local t = { "env", "-u", "LUA_INIT", "-u", "LUA_INIT_5_4" }
  local set = {
    LUAPOOL_SPEC_MARK = mark,
    LUA_PATH_5_4 = package.path,
    LUA_CPATH_5_4 = package.cpath,
  }
  for name, value in pairs(extra or {}) do set[name] = value end
  for name, value in pairs(set) do t[#t + 1] = name .. "=" .. value end
  return words(t)
end

-- What the text of every program may use.
local PRELUDE = [[
local luapool = require "luapool"
local harm = require "harm"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local faults = require "spec.support.faults"
]]

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- The whole command line of a program.
local function command(self, opts)
  local under = words(opts.under or {})
  local file = script.quote(self.out .. ".lua")
  local out = opts.pipe and "| " .. opts.pipe
    or ">" .. script.quote(self.out .. ".out") .. " " .. (opts.redirect or "")
  return ("%s %s timeout -k 1 %g %s %s %s </dev/null 2>%s %s"):format(
    opts.pipe and "" or "exec", environment(self.out, opts.env),
    opts.limit or LIMIT, under, script.quote(script.interpreter()), file,
    script.quote(self.out .. ".err"), out)
end

local Program = {}
Program.__index = Program

--- Starts a Lua program, in which luapool, harm, gate, leaks and faults are
-- locals.
-- @param text the program
-- @param opts under: words before the interpreter (strace, prlimit ...); env: a
--   table; limit: seconds; redirect: more of the shell's; pipe: a command that
--   reads its stdout
-- @return a program
function M.start(text, opts)
  opts = opts or {}
  local self = setmetatable({ out = os.tmpname() }, Program)
  self.linger = opts.linger or LINGER
  write(self.out .. ".lua", PRELUDE .. text)
  self.begun = gate.now()
  self.pipe = assert(io.popen(command(self, opts)))
  return self
end

--- Path to something that is this program's: removed with it.
function Program:path(suffix) return self.out .. "." .. suffix end

--- What it has printed so far.
function Program:printed() return gate.read(self.out .. ".out") end

--- Waits until it has printed something that matches; returns the captures.
function Program:wait_for(pattern)
  gate.eventually(function() return self:printed():find(pattern) end, LIMIT,
    "output like " .. pattern)
  return self:printed():match(pattern)
end

--- Every process of it that is alive: a list.
function Program:processes()
  local list = {}
  for pid in pairs(M.marked(self.out)) do
    if leaks.alive(pid) then list[#list + 1] = pid end
  end
  return list
end

-- After the end: what is left is killed, and an error.
local function nothing_left(self)
  local limit = gate.now() + (self.linger)
  local left = M.marked(self.out)
  while next(left) and gate.now() < limit do
    gate.sleep(0.01)
    left = M.marked(self.out)
  end
  local list = {}
  for pid, name in pairs(left) do
    M.kill(pid, "KILL")
    list[#list + 1] = pid .. " (" .. name:gsub("%z", " ") .. ")"
  end
  if #list > 0 then
    error("the program left processes: " .. table.concat(list, ", "), 3)
  end
end

--- Waits for its end.
-- @return {stdout=, stderr=, status=, seconds=}: status is 128 + the signal,
--   124 where the time was up
function Program:wait()
  local _, how, code = self.pipe:close()
  local result = {
    stdout = self:printed(),
    stderr = gate.read(self.out .. ".err"),
    status = how == "signal" and 128 + code or code,
    seconds = gate.now() - self.begun,
  }
  os.execute(("rm -f %s %s.*"):format(self.out, self.out))
  nothing_left(self)
  return result
end

--- Starts one and waits for it.
function M.run(text, opts) return M.start(text, opts):wait() end

--- Runs a program that must succeed silently but for its stdout: that.
function M.output(text, opts)
  local result = M.run(text, opts)
  if result.status ~= 0 or result.stderr ~= "" then
    error(("the program ended with status %d: %s%s"):format(result.status,
      result.stdout, result.stderr), 2)
  end
  return result.stdout
end

-- ----------------------------------------------------- what this machine has

--- Are these specs run by the host (and not by stock Lua)?
function M.is_host() return package.preload["luapool"] ~= nil end

--- Does this command work here? Names what is missing where it does not.
function M.works(line)
  return (os.execute(line .. " >/dev/null 2>&1")) == true
end

--- strace, changing system calls of a program and its children.
-- @param inject "what:how" as of strace -e inject
function M.strace(inject)
  local calls = inject:match "^[^:]+"
  return { "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" .. calls,
    "-e", "inject=" .. inject }
end

--- Skips the test where strace may not trace.
function M.needs_strace(pending)
  if not M.works "strace -f -qq -o /dev/null -e inject=getpid:error=EPERM true"
  then
    pending "strace cannot trace here"
  end
end

--- The environment for a shim.
function M.preload(name, env)
  local t = { LD_PRELOAD = assert(M.absolute(M.build .. name .. ".so")) }
  for key, value in pairs(env or {}) do t[key] = tostring(value) end
  return t
end

function M.absolute(path)
  if path:sub(1, 1) == "/" then return path end
  return lfs.currentdir() .. "/" .. path
end

return M
