-- shows a Lambda handler that streams: rows go out as the pool delivers them
local luapool = require "luapool"

local pool = luapool.Pool()

local function collatz(n)
  local steps = 0
  while n ~= 1 do
    n, steps = n % 2 == 0 and n // 2 or 3 * n + 1, steps + 1
  end
  return steps
end

local function count(to)
  local n = 0
  return function()
    n = n + 1
    if n <= to then return n end
  end
end

local M = {}

--- {"to": 3} -> three rows of comma-separated values
function M.handler(event, context)
  local out = context.stream { content_type = "text/csv" }
  for n, steps in pool:imap(collatz, count(event.to)) do
    assert(out:write(("%d,%d\n"):format(n, steps)))
  end
end

return M
