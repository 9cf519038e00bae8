-- SPDX-License-Identifier: MIT
-- The user's handler: _HANDLER is `module.function`, split at its last dot; `/`
-- in the module separates folders. The module is a file below the task's root.

local fault = require "luapool.lambda.fault"

local M = {}

-- Module and function of a handler's name.
local function split(name)
  local module, f = name:match("^(.+)%.([^.]+)$")
  if not module or name:find("..", 1, true) or module:find("/$") then
    fault.raise("Runtime.MalformedHandlerName",
      ("bad handler '%s': it must be module.function"):format(name))
  end
  return module, f
end

-- Dots separate folders as they do for `require`; else they are the file's own.
local function candidates(root, module)
  local list = {}
  local folders = module:gsub("%.", "/")
  for _, path in ipairs { folders, folders ~= module and module or nil } do
    table.insert(list, ("%s/%s.lua"):format(root, path))
    table.insert(list, ("%s/%s/init.lua"):format(root, path))
  end
  return list
end

local function find(root, module)
  local paths = candidates(root, module)
  for _, path in ipairs(paths) do
    local file <close> = io.open(path)
    if file then
      return path
    end
  end
  fault.raise("Runtime.ImportModuleError",
    ("module '%s' not found: no file '%s'"):format(module,
      table.concat(paths, "', no file '")))
end

-- The type of what loadfile says: there is no such file, or it is no Lua.
local function loading_type(message)
  if message == "not enough memory" then
    return "Runtime.InitError"
  elseif message:find("^cannot %a+ ") then
    return "Runtime.ImportModuleError"
  end
  return "Runtime.UserCodeSyntaxError"
end

-- As `require` does, but for the place: a folder of the user's may have a file
-- by the name of a standard library, which stays what it is.
local function load_module(root, module)
  local path = find(root, module)
  local chunk, message = loadfile(path)
  if not chunk then
    fault.raise(loading_type(message), message)
  end
  local value = chunk(module, path)
  if value == nil then
    value = package.loaded[module] or true
  end
  if package.loaded[module] == nil then
    package.loaded[module] = value
  end
  return value
end

local function callable(f)
  return type(f) == "function" or require("luapool.options").callable(f)
end

local function resolve(root, name)
  local module, field = split(name)
  local value = load_module(root, module)
  local f = type(value) == "table" and value[field] or nil
  if not callable(f) then
    fault.raise("Runtime.HandlerNotFound",
      ("module '%s' has no function '%s'"):format(module, field))
  end
  return f
end

-- What `require` raised in the module counts as the module's own fault.
local function init_type(value)
  if type(value) ~= "string" then
    return "Runtime.InitError"
  elseif value:find("^[^\n]*module '([^\n]*)' not found:\n"
    .. "\tno field package%.preload%['%1'%]") then
    return "Runtime.ImportModuleError"
  end
  local file, message = value:match(
    "^[^\n]*error loading module '[^\n]-' from file '([^\n]-)':\n\t(.*)$")
  if not file then
    return "Runtime.InitError"
  end
  return file:find("%.lua$") and loading_type(message)
    or "Runtime.ImportModuleError"
end

--- Loads the module and finds the function.
-- @string root the folder of the user's code
-- @string name the value of _HANDLER
-- @return the handler; or nil, a failure
function M.load(root, name)
  local ok, e = fault.try(resolve, root, name)
  if ok then
    return e
  end
  local failure = fault.caught(e)
  if not fault.is(e) then
    failure.type = init_type(e)
  end
  return nil, failure
end

return M
