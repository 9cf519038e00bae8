-- SPDX-License-Identifier: MIT
-- A function's own environment variables, from the options --env-var NAME=VALUE
-- and --env-file FILE, for every command that has them.

local failure = require "luapool.lambda.failure"

local M = {}

--- Enters both options.
-- @param parser an argparse command
function M.define(parser)
  parser:option("--env-var", "A variable, NAME=VALUE; may be repeated.")
    :count "*"
  parser:option("--env-file", "A file of them, one a line; # begins a comment.")
    :count "*"
end

local function add(values, text, origin)
  local name, value = text:match("^([%a_][%w_]*)=(.*)$")
  if not name then failure.usage("%s: not NAME=VALUE: %s", origin, text) end
  values[name] = value
end

local function add_file(values, path)
  local file <close>, message = io.open(path)
  if not file then failure.raise("%s", message) end
  for line in file:lines() do
    local text = line:match("^%s*(.-)%s*$")
    if text ~= "" and text:sub(1, 1) ~= "#" then add(values, text, path) end
  end
end

--- What the options say; a variable by itself wins over one of a file.
-- @return {NAME = value}
function M.read(options)
  local values = {}
  for _, path in ipairs(options.env_file or {}) do add_file(values, path) end
  for _, text in ipairs(options.env_var or {}) do
    add(values, text, "--env-var")
  end
  return values
end

return M
