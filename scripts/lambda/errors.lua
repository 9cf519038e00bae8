-- shows what becomes of errors in a Lambda handler and in its pool's tasks
local luapool = require "luapool"

local pool = luapool.Pool()

local function fetch(name)
  if name == "secret" then error("no access to " .. name) end
  if name == "crash" then os.exit(3) end
  return "contents of " .. name
end

local M = {}

--- {"names": ["news", "secret"]} -> {"found": {...}, "failed": {...}}
function M.handler(event, context)
  if type(event) ~= "table" or not event.names then
    -- The caller is told "BadRequest", and this message.
    error { errorType = "BadRequest", errorMessage = "names are missing" }
  end
  if event.strict then
    return pool:map(fetch, event.names) -- "luapool.task" or "luapool.lost"
  end
  local results, errors = pool:map(fetch, event.names,
    { on_error = "collect" })
  local found, failed = {}, {}
  for i, name in ipairs(event.names) do
    found[name] = results[i]
    failed[name] = errors[i] and errors[i].kind
    if errors[i] then context.log("warn", tostring(errors[i])) end
  end
  return { found = found, failed = failed }
end

return M
