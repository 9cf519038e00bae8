-- SPDX-License-Identifier: MIT
-- The function that the specs run in every host: what an event asks for, it
-- does.
local luapool = require "luapool"

local M = {}

local pool -- made once, warm from then on
local count = 0

local function square(x) return x * x end

local function mark(path, text)
  local file <close> = assert(io.open(path, "a"))
  file:write(text or "+")
end

local actions = {}

function actions.echo(value) return value end

function actions.count()
  count = count + 1
  return count
end

function actions.map(items)
  pool = pool or luapool.Pool(2)
  return pool:map(square, items)
end

function actions.fail(value) error(value, 0) end

function actions.exit(status) os.exit(status) end

function actions.kill(signal)
  os.execute("kill -" .. signal .. " " .. io.open("/proc/self/stat"):read "n")
end

function actions.sleep(seconds) os.execute("sleep " .. seconds) end

-- A task that outlives every deadline.
function actions.hang()
  pool = pool or luapool.Pool(2)
  return pool:apply(os.execute, { "sleep 87" })
end

function actions.size(bytes) return ("x"):rep(bytes) end

-- A result that JSON cannot hold.
function actions.unfit() return print end

function actions.length(text) return #text end

function actions.mark(path) mark(path) end

-- Waits there for n of them.
function actions.meet(path, n)
  mark(path)
  while #io.open(path):read "a" < n do os.execute "sleep 0.01" end
  return n
end

function actions.print(text)
  print(text)
  io.stderr:write("(err) ", text, "\n")
end

function actions.getenv(name) return os.getenv(name) end

function actions.context(_, _, context)
  return {
    id = context.aws_request_id,
    name = context.function_name,
    memory = context.memory_limit_in_mb,
    arn = context.invoked_function_arn,
    client = context.client_context,
    left = context.get_remaining_time_in_millis(),
    trace = os.getenv "_X_AMZN_TRACE_ID",
  }
end

-- n pieces; `then_fail`: and an error after them.
function actions.stream(n, then_fail, context)
  local out = context.stream { content_type = "text/plain" }
  for i = 1, n do out:write("piece " .. i .. "\n") end
  if then_fail then error("after the pieces", 0) end
end

--- {ACTION, ARGUMENT, ARGUMENT}
function M.handler(event, context)
  return actions[event[1]](event[2], event[3], context)
end

return M
