-- shows tasks that fail: errors raised, errors collected, workers lost
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"
local pool <close> = luapool.Pool(2)

local function fetch(page)
  if page == "/secret" then error{status = 403} end
  if page == "/crash" then os.exit(3) end  -- takes its worker along
  return "contents of " .. page
end

-- As in a plain loop, the first error is raised; its value is what was raised.
local ok, err = pcall(pool.map, pool, fetch, {"/", "/secret", "/news"})
print("raised", ok, err.kind, "item " .. err.index, err.value.status)

-- Collected, no error is raised, and no result is lost.
local pages = {"/", "/secret", "/crash", "/news"}
local contents, errors = pool:map(fetch, pages, {on_error = "collect"})
for i, page in ipairs(pages) do
  local failed = errors[i]
  print(page, contents[i] or failed.kind,
    failed and (failed.exitcode or failed.value.status) or "")
end

-- A task whose worker was lost may be safe to try again.
local marker = os.tmpname()
local function unlucky()
  if os.remove(marker) then os.exit(1) end  -- the first time only
  return "done at the second attempt"
end
print("retried", pool:apply(unlucky, {}, {retries = 1}))
