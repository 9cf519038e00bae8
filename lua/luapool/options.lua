-- SPDX-License-Identifier: MIT
-- Checks of what a caller hands in. Misuse raises a plain string at the level
-- of the public function's caller, in the words of Lua's own libraries.

local M = {}

local type, tointeger = type, math.tointeger

-- A tail call would take a level away, so there is none around these checks.

--- Raises `bad argument #arg to 'name' (text)`.
-- @int level as of `error`, counted from the function that calls this
function M.bad(level, arg, name, text)
  error(("bad argument #%d to '%s' (%s)"):format(arg, name, text), level + 1)
end

local function expected(what, value)
  return ("%s expected, got %s"):format(
    what, value == nil and "no value" or type(value))
end

-- Each check returns nil, or what is wrong with the value.

local check = {}
M.check = check

function check.number(v)
  if type(v) ~= "number" then
    return expected("number", v)
  elseif v ~= v then
    return "not a number"
  end
end

function check.seconds(v)
  return check.number(v) or v < 0 and "must not be negative" or nil
end

function check.integer(v)
  if type(v) ~= "number" then
    return expected("number", v)
  elseif not tointeger(v) then
    return "number has no integer representation"
  end
end

function check.count(v)
  return check.integer(v) or v < 0 and "must not be negative" or nil
end

function check.positive(v)
  return check.integer(v) or v < 1 and "must be at least 1" or nil
end

function check.string(v)
  return type(v) ~= "string" and expected("string", v) or nil
end

function check.table(v)
  return type(v) ~= "table" and expected("table", v) or nil
end

function check.boolean(v)
  return type(v) ~= "boolean" and expected("boolean", v) or nil
end

--- Can it be called? Functions, and tables and userdata with `__call`.
function M.callable(v)
  if type(v) == "function" then
    return true
  end
  local mt = debug.getmetatable(v)
  return type(mt) == "table" and rawget(mt, "__call") ~= nil
end

check["function"] = function(v)
  return not M.callable(v) and expected("function", v) or nil
end

--- One of these strings.
function M.one_of(...)
  local allowed = { ... }
  local text = '"' .. table.concat(allowed, '" or "') .. '"'
  for _, v in ipairs(allowed) do
    allowed[v] = true
  end
  return function(v)
    if type(v) ~= "string" then
      return expected(text, v)
    end
    return not allowed[v] and ("%s expected, got %q"):format(text, v) or nil
  end
end

local no_options = {}

--- Checks a table of options.
-- @tparam table|nil given
-- @tparam table known option -> check
-- @int level as of `error`
-- @int arg,name of the public function, for the text
-- @treturn table given, or an empty table
function M.options(level, arg, name, given, known)
  if given == nil then
    return no_options
  elseif type(given) ~= "table" then
    M.bad(level + 1, arg, name, expected("table", given))
  end
  for option, value in next, given do
    local test = known[option]
    if not test then
      M.bad(level + 1, arg, name,
        ("unknown option '%s'"):format(tostring(option)))
    end
    local wrong = test(value)
    if wrong then
      M.bad(level + 1, arg, name, ("option '%s': %s"):format(option, wrong))
    end
  end
  return given
end

--- Checks one argument; nil passes where it is optional.
function M.argument(level, arg, name, value, test, optional)
  if optional and value == nil then
    return value
  end
  local wrong = test(value)
  if wrong then
    if value == nil then
      wrong = wrong:gsub("no value$", "nil")
    end
    M.bad(level + 1, arg, name, wrong)
  end
  return value
end

--- The function of a call: itself, or found by its name "module.function".
-- @return the function, and its name where it was given by name
function M.task(level, arg, name, f)
  if type(f) ~= "string" then
    M.argument(level + 1, arg, name, f, check["function"])
    return f
  end
  local module, field = f:match("^(.+)%.([^.]+)$")
  if not module then
    M.bad(level + 1, arg, name,
      ("'%s' is no function name: write \"module.function\""):format(f))
  end
  local ok, loaded = pcall(require, module)
  if module == "_G" then
    ok, loaded = false, "_G is no module"
  end
  if not ok then
    M.bad(level + 1, arg, name,
      ("no module '%s' for '%s': %s"):format(module, f, tostring(loaded)))
  end
  local found = type(loaded) == "table" and loaded[field]
  if not M.callable(found) then
    M.bad(level + 1, arg, name,
      ("module '%s' has no function '%s'"):format(module, field))
  end
  return found, f
end

--- Makes the methods of a class say so where they are called with a dot, or on
-- something else.
function M.guard_methods(class, methods)
  for name, f in pairs(methods) do
    if type(f) == "function" and name:sub(1, 2) ~= "__" then
      methods[name] = function(self, ...)
        if getmetatable(self) ~= class then
          error(("calling '%s' on bad self (%s expected, got %s)"):format(name,
            class.__name, self == nil and "nil" or type(self)), 2)
        end
        return f(self, ...)
      end
    end
  end
end

return M
