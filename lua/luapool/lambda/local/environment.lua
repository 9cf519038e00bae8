-- SPDX-License-Identifier: MIT
-- The environment of a bootstrap: what Lambda sets, credentials that are set
-- here, and the function's own settings. Nothing else of ours is inherited.

local M = {}

-- Lambda has those of the function's role.
local CREDENTIALS = { "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN" }

local function region()
  return os.getenv "AWS_REGION" or os.getenv "AWS_DEFAULT_REGION"
end

local function standard(f, log_stream, port)
  local here = region()
  return {
    AWS_LAMBDA_RUNTIME_API = "127.0.0.1:" .. port,
    AWS_LAMBDA_FUNCTION_NAME = f.name,
    AWS_LAMBDA_FUNCTION_VERSION = "$LATEST",
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE = tostring(f.memory),
    AWS_LAMBDA_LOG_GROUP_NAME = "/aws/lambda/" .. f.name,
    AWS_LAMBDA_LOG_STREAM_NAME = log_stream,
    AWS_LAMBDA_INITIALIZATION_TYPE = "on-demand",
    AWS_REGION = here,
    AWS_DEFAULT_REGION = here,
    LAMBDA_TASK_ROOT = f.root,
    LAMBDA_RUNTIME_DIR = f.root,
    LD_LIBRARY_PATH = f.root .. ":" .. f.root .. "/lib",
    PATH = "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    LANG = "C.UTF-8",
    TZ = ":UTC",
    _HANDLER = f.handler,
  }
end

--- @tparam table f the function; its `settings` win over what is set here
-- @string log_stream
-- @int port of the Runtime API
-- @return list of "NAME=value"
function M.list(f, log_stream, port)
  local values = standard(f, log_stream, port)
  for _, name in ipairs(CREDENTIALS) do values[name] = os.getenv(name) end
  for name, value in pairs(f.settings) do values[name] = value end
  local list = {}
  for name, value in pairs(values) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return list
end

return M
