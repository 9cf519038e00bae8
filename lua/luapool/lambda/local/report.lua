-- SPDX-License-Identifier: MIT
-- The lines around an invocation in the log of its sandbox: START, END, REPORT.

local host = require "luapool.host"

local M = {}

local function read(path)
  local file <close> = io.open(path)
  return file and file:read("a") or ""
end

-- The most memory that the processes below this one have used, kB. What they
-- share counts for each.
local function peak_below(pid)
  local kb = 0
  local children = read(("/proc/%d/task/%d/children"):format(pid, pid))
  for child in children:gmatch("%d+") do
    local peak = read("/proc/" .. child .. "/status"):match("VmHWM:%s*(%d+)")
    kb = kb + (tonumber(peak) or 0) + peak_below(child)
  end
  return kb
end

function M.start(sandbox, invocation)
  sandbox:print(("START RequestId: %s Version: $LATEST\n"):format(
    invocation.id))
end

--- @string[opt] status "timeout" or "error"
function M.finish(sandbox, invocation, status)
  local ms = (host.clock() - invocation.begun) * 1e3
  local pid = sandbox.program:pid()
  local fields = {
    "REPORT RequestId: " .. invocation.id,
    ("Duration: %.2f ms"):format(ms),
    ("Billed Duration: %d ms"):format(math.ceil(ms)),
    ("Memory Size: %d MB"):format(sandbox.config.memory),
    ("Max Memory Used: %d MB"):format(
      pid and math.ceil(peak_below(pid) / 1024) or 0),
  }
  if sandbox.init_seconds and not sandbox.is_warm then
    fields[#fields + 1] = ("Init Duration: %.2f ms"):format(
      sandbox.init_seconds * 1e3)
  end
  if status then fields[#fields + 1] = "Status: " .. status end
  sandbox:print(("END RequestId: %s\n%s\t\n"):format(invocation.id,
    table.concat(fields, "\t")))
end

return M
