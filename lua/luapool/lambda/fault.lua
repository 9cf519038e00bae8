-- SPDX-License-Identifier: MIT
-- What went wrong in an invocation, or before the first one, as Lambda wants to
-- hear it: a type, a message, and a list of stack frames. Raised by the runtime
-- itself where an event or a result is at fault; made of whatever a handler
-- raised by `caught`.

local json = require "luapool.json"
local text = require "luapool.lambda.text"

local M = {}

local traceback, sethook = debug.traceback, debug.sethook

local MOST = 64 * 1024 -- bytes of a body
local TYPE_MOST = 256 -- bytes of a type, which is a header too
local FRAME_MOST = 1024

local Failure = {}
Failure.__index = Failure

local UNNAMED = "LuaError"

--- @string type as errorType: in the body what it is in the header
-- @string message as errorMessage
-- @tparam[opt] table stack a list of frames
function M.new(type, message, stack)
  type = text.header(type, TYPE_MOST)
  return setmetatable({
    type = type ~= "" and type or UNNAMED,
    message = message,
    stack = stack or {},
  }, Failure)
end

--- Raises one.
function M.raise(type, message)
  error(M.new(type, message), 0)
end

-- -------------------------------------------------- what a handler raised

-- The last error that was raised, and the stack while it was there. The error
-- itself goes on as it is: variables that are closed on its way are told of it.
local last, trace

-- It may run in the last of the stack, so it does no more than it must.
local function capture(value)
  sethook()
  last, trace = value, traceback(nil, 2)
  return value
end

local function results(...)
  sethook()
  return ...
end

local function call(f, ...)
  return results(f(...))
end

--- Calls what runs the user's code. A debug hook that this leaves behind would
-- raise its errors in the runtime, so none is left. (It may be the one that is
-- to make Lua leave at SIGTERM: the next wait does that as well.)
-- @return as of xpcall; what it says of an error is for `caught`
function M.try(f, ...)
  return xpcall(call, capture, f, ...)
end

-- The frames of a traceback, without those of the runtime at its bottom.
local function frames(traced, list)
  for line in traced:gmatch("\n\t([^\n]*)") do
    local ours = line:match("^luapool/lambda/(%l+)%.lua:")
    if ours == "invoke" or ours == "handler" or ours == "fault" then
      break
    end
    table.insert(list, line)
  end
  if list[#list] == "[C]: in function 'xpcall'" then
    table.remove(list)
  end
  return list
end

local function index(value, name)
  return value[name]
end

-- A string field, whatever the metatable does.
local function field(value, name)
  local ok, v = pcall(index, value, name)
  return ok and type(v) == "string" and v or nil
end

-- An error of the library: its traceback, a worker's, comes before ours.
local function of_library(e, errors, stack)
  local short = errors.new(e.kind, e.message,
    { index = e.index, name = e.name })
  local list = {}
  if type(e.traceback) == "string" then
    frames(e.traceback, list)
  end
  return M.new("luapool." .. tostring(e.kind), errors.text(short),
    frames(stack, list))
end

-- Errors that are no tables are what `tostring` makes of them.
local function message_of(value, errors)
  local t = type(value)
  if t == "table" or t == "userdata" then
    return errors.text(value)
  end
  return tostring(value)
end

local function describe(value, stack)
  local errors = require "luapool.error"
  if errors.is(value) then
    return of_library(value, errors, stack)
  end
  local kind, message
  if type(value) == "table" then
    kind, message = field(value, "errorType"), field(value, "errorMessage")
  end
  return M.new(kind or UNNAMED,
    message or message_of(value, errors), frames(stack, {}))
end

local NO_MEMORY = "not enough memory"

-- Where no message handler was called, or it had no room, there is no stack.
local function convert(e)
  if M.is(e) then
    return e
  end
  return describe(e, rawequal(e, last) and trace or "")
end

--- Is it one that `raise` has raised?
function M.is(e)
  return rawequal(getmetatable(e), Failure)
end

--- The error that `try` returned.
-- @return a failure
function M.caught(e)
  if e == NO_MEMORY then
    collectgarbage() -- what the handler held may be free by now
  end
  local ok, failure = M.try(convert, e)
  last, trace = nil, nil
  if ok then
    return failure
  end
  collectgarbage()
  return M.new(UNNAMED, NO_MEMORY)
end

-- -------------------------------------------------------------- as JSON

-- A JSON string that holds as much of s as fits into `room` bytes.
local function fit(s, room)
  s = text.valid(s:sub(1, room))
  local quoted = json.encode(s)
  while #quoted > room do
    s = text.cut(s, math.min(#s - 1, #s * room // #quoted))
    quoted = json.encode(s)
  end
  return quoted
end

local function fit_stack(stack, room)
  local list, size = {}, 2
  for _, frame in ipairs(stack) do
    local quoted = fit(frame, FRAME_MOST)
    size = size + #quoted + 1
    if size > room then
      break
    end
    table.insert(list, quoted)
  end
  return "[" .. table.concat(list, ",") .. "]"
end

--- The three members of the error's JSON, without the braces.
-- @int[opt] most bytes, 64 KB
function Failure:members(most)
  local room = (most or MOST)
    - #'{"errorMessage":,"errorType":,"stackTrace":}'
  local kind = json.encode(self.type)
  local stack = fit_stack(self.stack, room // 4)
  local message = fit(self.message, room - #kind - #stack)
  return ('"errorMessage":%s,"errorType":%s,"stackTrace":%s'):format(message,
    kind, stack)
end

--- The error's JSON.
-- @int[opt] most bytes, 64 KB
function Failure:body(most)
  return "{" .. self:members(most) .. "}"
end

return M
