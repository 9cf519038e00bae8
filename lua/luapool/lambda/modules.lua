-- SPDX-License-Identifier: MIT
-- Which modules every function has without a line in --requirements.
local M = {}

local STANDARD = {
  _G = true, coroutine = true, debug = true, io = true, math = true, os = true,
  package = true, string = true, table = true, utf8 = true,
}

--- Is the module part of the host?
function M.built_in(name)
  return STANDARD[name] or package.preload[name] ~= nil
    or name:find("^luapool%.") ~= nil
end

return M
