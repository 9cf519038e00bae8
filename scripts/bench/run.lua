-- shows all benchmarks in one table, or only those that are named
-- SPDX-License-Identifier: MIT
--
-- Each benchmark runs in a process of its own, so that the memory of one is no
-- burden on the forks of the next.
local NAMES = {"apply", "map", "bytes", "fork", "speedup", "codec", "memory",
  "linear", "coldstart"}

local here = arg[0]:match("^(.*/)") or "./"
package.path = here .. "?.lua;" .. package.path

if arg[1] == "--here" then return dofile(here .. arg[2] .. ".lua") end

local known = {}
for _, name in ipairs(NAMES) do known[name] = true end
for _, name in ipairs(arg) do
  if not known[name] then
    io.stderr:write("usage: luapool scripts/bench/run.lua [NAME ...]\n",
      "NAME is one of: ", table.concat(NAMES, " "), "\n")
    os.exit(2)
  end
end

local harness = require "harness"

local function first_line(command)
  local output <close> = assert(io.popen(command))
  return output:read() or ""
end

local function run(name, counts)
  local command = ("%s %s --here %s"):format(harness.interpreter, arg[0], name)
  local output <close> = assert(io.popen(command))
  for line in output:lines() do
    print(line)
    local verdict = line:match("%f[%a](met)$") or line:match("missed by %d+%%$")
    if verdict then
      verdict = verdict:match("%a+")
      counts[verdict] = counts[verdict] + 1
    end
  end
  return (output:close())
end

io.stdout:setvbuf("line")
local counts, failed = {met = 0, missed = 0}, {}
print(("%s, %s CPUs, %s, %s"):format(first_line("uname -srm"),
  first_line("nproc"), _VERSION, first_line("python3 --version 2>&1")))
harness.heading()
for _, name in ipairs(#arg > 0 and arg or NAMES) do
  if not run(name, counts) then failed[#failed + 1] = name end
end
print(("%d targets met, %d missed"):format(counts.met, counts.missed))
if #failed > 0 then
  io.stderr:write("failed: ", table.concat(failed, " "), "\n")
  os.exit(1)
end
