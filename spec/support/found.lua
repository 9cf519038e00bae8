-- SPDX-License-Identifier: MIT
-- A module for closure_spec that package.searchpath finds.
local M = {}

function M.work() return "found" end

return M
