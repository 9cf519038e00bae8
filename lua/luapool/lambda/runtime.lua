-- SPDX-License-Identifier: MIT
-- The Lambda runtime: what the host does where it is started as `bootstrap`.
-- It loads the user's module, then serves events, one at a time. Most of what
-- goes wrong later is loaded later: all of this counts as cold start.

local host = require "luapool.host"
local api = require "luapool.lambda.api"
local event = require "luapool.lambda.event"
local handler = require "luapool.lambda.handler"
local invoke = require "luapool.lambda.invoke"
local log = require "luapool.lambda.log"

local M = {}

local GRACE = 0.1 -- seconds that workers get to end at SIGTERM

local function setting(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

-- The user's modules come first, then those that were packaged along.
local function set_paths(root)
  local lua = { root .. "/?.lua", root .. "/?/init.lua" }
  local c = { root .. "/?.so" }
  local packaged = setting "LUAPOOL_RUNTIME"
  if packaged then
    table.insert(lua, packaged .. "/share/?.lua")
    table.insert(lua, packaged .. "/share/?/init.lua")
    table.insert(c, packaged .. "/lib/?.so")
  end
  table.insert(lua, package.path)
  table.insert(c, package.cpath)
  package.path, package.cpath = table.concat(lua, ";"), table.concat(c, ";")
end

--- Says why there is no going on.
function M.report(message)
  log.write("FATAL", nil, message)
end

--- Loads the user's module.
-- @return the handler; or nil, a failure
function M.load()
  local root = setting "LAMBDA_TASK_ROOT" or "."
  set_paths(root)
  return handler.load(root, setting "_HANDLER" or "")
end

--- Serves events until there are no more to be had.
-- @param client see luapool.lambda.api
-- @tparam function f the handler
-- @param[opt] extension see luapool.lambda.extension
-- @return a message
function M.serve(client, f, extension)
  log.flush()
  while true do
    if extension then
      extension:renew()
    end
    local answer, message = client:next()
    if not answer then
      return message
    end
    local e = event.new(answer)
    if e.id then
      invoke.serve(client, f, e)
    else
      log.write("ERROR", nil, "an event without a request id is skipped")
    end
  end
end

--- Says why there will be no invocation, to the log and to Lambda.
function M.init_failed(client, failure)
  log.failed(nil, failure)
  log.flush()
  local ok, message = client:init_error(failure)
  if not ok then
    M.report(message)
  end
end

local function run_one(client)
  local f, failure = M.load()
  if not f then
    return M.init_failed(client, failure)
  end
  local extension = require("luapool.lambda.extension").start(client)
  M.report(M.serve(client, f, extension))
end

-- Of managed instances: how many events at once.
local function concurrency()
  local digits = (setting "AWS_LAMBDA_MAX_CONCURRENCY" or ""):match("^%d+$")
  local n = math.tointeger(tonumber(digits))
  return n and n > 0 and n or nil
end

--- The whole life of the process. It ends by itself only where something is
-- wrong: with status 1.
function M.main()
  host.exit_on_term(0, GRACE)
  local client = api.new(os.getenv "AWS_LAMBDA_RUNTIME_API")
  local n = concurrency()
  if n then
    require("luapool.lambda.concurrency").run(client, n)
  else
    run_one(client)
  end
  os.exit(1)
end

return M
