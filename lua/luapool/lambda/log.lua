-- SPDX-License-Identifier: MIT
-- The log: lines on stderr, in the format and from the level on that the
-- function's settings say. What the user prints passes beside it, unchanged.

local host = require "luapool.host"
local json = require "luapool.json"
local text = require "luapool.lambda.text"

local M = {}

local LEVELS = {
  TRACE = 1, DEBUG = 2, INFO = 3, WARN = 4, ERROR = 5, FATAL = 6,
}

local stdout, stderr, output = io.stdout, io.stderr, io.output

local function setting(name)
  return (os.getenv(name) or ""):upper()
end

local as_json = setting "AWS_LAMBDA_LOG_FORMAT" == "JSON"
local least = LEVELS[setting "AWS_LAMBDA_LOG_LEVEL"] or LEVELS.INFO

-- RFC 3339, UTC, with milliseconds.
local function timestamp()
  local now = host.wall_clock()
  return os.date("!%Y-%m-%dT%H:%M:%S", now // 1000)
    .. (".%03dZ"):format(now % 1000)
end

local function flush_output()
  output():flush()
end

--- Writes what has been printed: an environment may be frozen for hours once
-- its answer is there, or for good. A file that the user has closed has nothing
-- to write.
function M.flush()
  pcall(stdout.flush, stdout)
  pcall(stderr.flush, stderr)
  pcall(flush_output)
end

-- A line in one piece. Where stderr cannot be written nobody can be told.
local function put(line)
  pcall(stderr.write, stderr, line .. "\n")
  pcall(stderr.flush, stderr)
end

local function put_json(level, id, members)
  if id then
    members = ('"requestId":%s,%s'):format(json.encode(text.valid(id)), members)
  end
  put(('{"timestamp":"%s","level":"%s",%s}'):format(timestamp(), level,
    members))
end

local function one_line(s)
  return (s:gsub("[\r\n]", { ["\r"] = "\\r", ["\n"] = "\\n" }))
end

local function put_text(level, id, message)
  put(table.concat({ timestamp(), id or "-", level, message }, "\t"))
end

--- Is this the name of a level?
function M.is_level(name)
  return type(name) == "string" and LEVELS[name:upper()] ~= nil
end

--- A line, where the level is not below the one that is set.
-- @string level
-- @tparam ?string id of the request
-- @string message
function M.write(level, id, message)
  level = level:upper()
  if LEVELS[level] < least then
    return
  elseif as_json then
    put_json(level, id, '"message":' .. json.encode(text.valid(message)))
  else
    put_text(level, id, message)
  end
end

--- The one line of a failed event or init, whatever the level.
-- @tparam ?string id of the request
-- @param failure see luapool.lambda.fault
function M.failed(id, failure)
  if as_json then
    return put_json("ERROR", id, failure:members())
  end
  local line = failure.type .. ": " .. failure.message
  if failure.stack[1] then
    line = line .. "\t" .. table.concat(failure.stack, "; ")
  end
  put_text("ERROR", id, one_line(line))
end

return M
