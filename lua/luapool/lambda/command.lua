-- SPDX-License-Identifier: MIT
-- The command `lambdapool`: its command line. Each subcommand is a file beside
-- this one with `summary`, `define(parser)`, which adds its arguments, and
-- `run(options)`. What they raise through failure.lua is one line on stderr and
-- status 1; a wrong command line, status 2.
local companion = require "luapool.lambda.companion"
local failure = require "luapool.lambda.failure"

local M = {}

local COMMANDS = { "package", "local" }

local function new_parser()
  local argparse = dofile(companion.part("argparse.lua"))
  local parser = argparse("lambdapool",
    "Packages and runs Lua handlers for AWS Lambda.")
  parser:command_target("command")
  parser:help_max_width(80)
  for _, name in ipairs(COMMANDS) do
    local module = require("luapool.lambda." .. name)
    module.define(parser:command(name, module.summary):summary(module.summary))
  end
  return parser
end

-- Which --help helps: that of the subcommand where one was named.
local function help_of(words)
  for _, name in ipairs(COMMANDS) do
    if words[1] == name then
      return "lambdapool " .. name .. " --help"
    end
  end
  return "lambdapool --help"
end

local function parse(words)
  local ok, options = new_parser():pparse(words)
  if not ok then
    local line = options:gsub("\nD(id you mean .*)$", " (d%1)")
    failure.usage("%s; see `%s`", line, help_of(words))
  end
  return options
end

local function run(words)
  local options = parse(words)
  require("luapool.lambda." .. options.command).run(options)
end

-- Keeps our own errors, and gives all others a traceback, but for what Ctrl-C
-- raises in the host.
local function handler(e)
  if failure.is(e) then
    return e
  elseif tostring(e):find("interrupted!$") then
    return failure.interrupted
  end
  return debug.traceback(tostring(e), 2)
end

--- Runs the command line in the global `arg`, and leaves with a status other
-- than 0 where that failed.
function M.main()
  local given = _G.arg
  local words = table.move(given, 1, #given, 1, {})
  local ok, e = xpcall(run, handler, words)
  if not ok then
    io.stderr:write("lambdapool: ", tostring(e), "\n")
    os.exit(failure.is(e) and e.status or 1)
  end
end

return M
