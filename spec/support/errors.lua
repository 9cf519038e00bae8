-- SPDX-License-Identifier: MIT
-- Two ways a call fails, and how specs ask for them: an error object of some
-- kind, or a plain string at the caller's level for wrong use.
local M = {}

local function show(value)
  return ("%s (a %s)"):format(tostring(value), type(value))
end

-- A readable line about an error that is not the expected one.
local function complain(expected, ok, err)
  local got = ok and "no error" or show(err)
  error(("expected %s, got %s"):format(expected, got), 3)
end

--- True where err is one of luapool's error objects, of that kind.
function M.is(kind, err)
  local luapool = require "luapool"
  return getmetatable(err) == luapool.Error and err.kind == kind
end

--- Calls fn(...), which must raise a luapool.Error of that kind. Returns it.
function M.of(kind, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok or not M.is(kind, err) then
    complain("an error of kind " .. kind, ok, err)
  end
  return err
end

-- Where fn was written: errors at its level begin so.
local function position(fn)
  local info = debug.getinfo(fn, "S")
  return ("%s:%d: "):format(info.short_src, info.linedefined)
end

--- Calls fn, written in one line, which must raise exactly this text as a
-- plain string with that line's position.
function M.misuse(text, fn)
  local ok, err = pcall(fn)
  local expected = position(fn) .. text
  if ok or err ~= expected then complain(expected, ok, err) end
end

--- The same where only some words of the text are known.
function M.misuse_naming(words, fn)
  local ok, err = pcall(fn)
  local at = position(fn)
  if ok or type(err) ~= "string" or err:sub(1, #at) ~= at
    or not err:find(words, #at + 1, true) then
    complain(at .. "... " .. words .. " ...", ok, err)
  end
end

return M
