-- SPDX-License-Identifier: MIT
-- `lambdapool local PATHS...`: the function behind an Invoke endpoint on this
-- machine, for curl, the AWS CLI and the SDKs, with no account. It runs in its
-- own bootstraps, with Lambda's environment, limits and errors.
--
--   endpoint ── fleet ── sandbox ── runtime_api
--
-- The endpoint makes invocations of requests, the fleet finds each a sandbox, a
-- sandbox is a bootstrap with the Runtime API that it talks to. All of it is
-- one loop without a thread, which waits for all their descriptors at once.

local host = require "luapool.host"
local endpoint = require "luapool.lambda.local.endpoint"
local failure = require "luapool.lambda.failure"
local fleet = require "luapool.lambda.local.fleet"
local companion = require "luapool.lambda.companion"
local settings = require "luapool.lambda.settings"
local task_root = require "luapool.lambda.local.task_root"

local M = { summary = "Run a function here, behind an Invoke endpoint." }

local ENDING = { 1, 2, 15 } -- SIGHUP, SIGINT, SIGTERM

--- Its options.
-- @param parser an argparse command
function M.define(parser)
  parser:argument("PATHS", "The function's files, as for `package`, or a zip "
    .. "that it has made."):args("+"):target("paths")
  parser:option("-r --requirements", "A file of Lua modules to include, one a "
    .. "line."):argname("FILE")
  parser:option("--handler", "The function to call, MODULE.FUNCTION; by "
    .. "default that named `handler` of the only Lua file.")
  parser:option("--function-name", "Its name in requests.", "function")
  parser:option("--port", "Where to listen, on 127.0.0.1; 0: anywhere.", "9000")
    :convert(math.tointeger)
  parser:option("--concurrency", "Invocations that run at a time; one more is "
    .. "refused with status 429.", "10"):convert(math.tointeger)
  parser:option("--timeout", "Seconds that an invocation may take.", "3")
    :convert(math.tointeger)
  parser:option("--memory", "MB, told to the function.", "128")
    :convert(math.tointeger)
  settings.define(parser)
end

local function in_range(options, name, least, most)
  local value = options[name]
  if value < least or value > most then
    failure.usage("--%s must be from %d to %d", name, least, most)
  end
end

local function check(options)
  in_range(options, "port", 0, 65535)
  in_range(options, "concurrency", 1, 1000)
  in_range(options, "timeout", 1, 900)
  in_range(options, "memory", 128, 10240)
  if not options.function_name:find("^[%w_-]+$") then
    failure.usage("--function-name may have letters, digits, - and _ alone")
  end
end

local function configuration(options, root)
  local region = os.getenv "AWS_REGION" or os.getenv "AWS_DEFAULT_REGION"
  local name = options.function_name
  return {
    name = name,
    arn = ("arn:aws:lambda:%s:000000000000:function:%s"):format(
      region or "us-east-1", name),
    handler = options.handler or root.handler
      or failure.usage("--handler must say which function is to be called"),
    root = root.path,
    program = root.program,
    memory = options.memory,
    timeout = options.timeout,
    settings = settings.read(options),
  }
end

local function announce(door, config)
  io.stdout:write(("http://127.0.0.1:%d  %s runs %s; Ctrl-C ends it\n"):format(
    door:port(), config.name, config.handler))
  io.stdout:flush()
end

-- Until one of the signals comes.
local function serve(door, sandboxes, signals)
  while not signals:take() do
    local fds = { signals:fileno() }
    local seconds = math.min(door:watch(fds), sandboxes:watch(fds))
    host.poll(fds, seconds < math.huge and math.max(0, seconds) or nil)
    door:step()
    sandboxes:step()
  end
end

--- Runs it until SIGINT, SIGTERM or SIGHUP.
-- @tparam table options as the command line has them
function M.run(options)
  check(options)
  local httpd = companion.load "httpd"
  local signals <close> = assert(host.signals(ENDING))
  local root <close> = task_root.new(options)
  local config = configuration(options, root)
  local sandboxes <close> = fleet.new(config, options.concurrency, httpd)
  local door <close>, problem = endpoint.new(config, sandboxes, httpd,
    options.port)
  if not door then failure.raise("%s", problem) end
  announce(door, config)
  serve(door, sandboxes, signals)
end

return M
