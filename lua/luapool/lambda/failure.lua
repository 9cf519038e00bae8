-- SPDX-License-Identifier: MIT
-- What lambdapool cannot do, in one line for its user. The error is raised from
-- wherever it is found, past everything in between, to command.lua, which
-- prints it; any other error is a fault of the program and shows a traceback.
local M = {}

local Failure = {
  __tostring = function(f)
    return f.message
  end,
}

local function raise(status, format, ...)
  local message = format:format(...)
  error(setmetatable({ message = message, status = status }, Failure), 0)
end

--- Ends the command with status 1.
function M.raise(format, ...)
  raise(1, format, ...)
end

--- Ends the command with status 2: it was called wrongly.
function M.usage(format, ...)
  raise(2, format, ...)
end

--- For a command that was interrupted: the status that shells give.
M.interrupted = setmetatable({ message = "interrupted", status = 130 }, Failure)

--- Returns its arguments; where the first is nil or false, the second is the
-- message.
function M.check(value, message, ...)
  if not value then
    raise(1, "%s", message)
  end
  return value, message, ...
end

--- Is it one of ours?
function M.is(e)
  return getmetatable(e) == Failure
end

return M
