-- SPDX-License-Identifier: MIT

--- The one shape of what luapool raises.
-- Wrong use raises a plain string at the caller's level, as Lua's libraries do;
-- all else is a table with the metatable `luapool.Error`.
-- @module luapool.error

local M = {}

--- An error object.
-- @table Error
-- @field kind `task` (the function raised), `lost` (its worker died),
--   `timeout`, `cancelled`, `terminated`, `closed`, `encode`, `decode`, `init`,
--   `broken`, `eof`, `interrupted` or `lambda`
-- @field message text
-- @field traceback the worker's, text
-- @field value what the function raised, of any type
-- @field index which item
-- @field name which function: its name, or file:line
-- @field pid,signal,exitcode of a lost worker
-- @field results of a passed deadline: what was done
local Error = { __name = "luapool.Error" }
Error.__index = Error
M.Error = Error

local function place(e)
  if e.index and e.name then
    return ("%s, item %d: "):format(e.name, e.index)
  elseif e.index then
    return ("item %d: "):format(e.index)
  elseif e.name then
    return e.name .. ": "
  end
  return ""
end

function Error:__tostring()
  local text = place(self) .. tostring(self.message)
  if self.traceback then
    text = text .. "\n" .. self.traceback
  end
  return text
end

--- Makes an error object.
-- @string kind see `Error`
-- @string message
-- @tparam[opt] table fields taken over as they are
-- @treturn Error
function M.new(kind, message, fields)
  local e = fields or {}
  e.kind = kind
  e.message = message
  return setmetatable(e, Error)
end

--- Raises one.
function M.raise(kind, message, fields)
  error(M.new(kind, message, fields), 0)
end

--- Is it one of ours (of this kind)?
function M.is(e, kind)
  return getmetatable(e) == Error and (kind == nil or e.kind == kind)
end

--- A readable text for any error value, whatever its `__tostring` does.
-- @return string
function M.text(value)
  if type(value) == "string" or type(value) == "number" then
    return tostring(value)
  end
  local mt = debug.getmetatable(value)
  if type(mt) == "table" and rawget(mt, "__tostring") then
    local ok, text = pcall(tostring, value)
    if ok then
      return text
    end
  elseif value == nil then
    return "nil"
  end
  return ("(error object is a %s value)"):format(type(value))
end

-- What a message handler makes of an error. A class of its own, since a task
-- may raise a table of any shape.
local Failure = {}

--- The message handler of everything that runs user code: keeps the value,
-- its text and the traceback without the frames below the task's own.
function M.capture(value)
  local trace = debug.traceback(nil, 2)
  for _, file in ipairs { "worker", "inline" } do
    trace = trace:gsub("\n[^\n]*luapool[/.]" .. file .. "[^\n]*:.*$", "")
    if type(value) == "string" then
      -- A C function blames its caller, which is us.
      value = value:gsub("^[^\n:]*luapool/" .. file .. "%.lua:%d+: ", "")
    end
  end
  return setmetatable({
    message = M.text(value),
    traceback = trace:gsub("\n[^\n]*in function 'xpcall'$", ""),
    value = value,
  }, Failure)
end

--- What xpcall with that handler returned, as message, traceback, value.
-- Where the handler itself had no room (a stack overflow), it is a string.
function M.captured(e)
  if getmetatable(e) == Failure then
    return e.message, e.traceback, e.value
  end
  return M.text(e), nil, e
end

--- The same error for another future.
function M.copy(e)
  local fields = {}
  for k, v in next, e do
    fields[k] = v
  end
  return setmetatable(fields, Error)
end

-- The C half raises its encode and decode errors through here.
debug.getregistry()["luapool.raise"] = M.raise

return M
