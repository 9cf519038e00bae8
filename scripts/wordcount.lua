-- shows a map over files: one table a file comes back, and is added up here
-- SPDX-License-Identifier: MIT
local luapool = require "luapool"

if #arg == 0 then
  io.stderr:write("usage: luapool wordcount.lua FILE...\n",
    "Prints the ten most frequent words of the files.\n")
  os.exit(2)
end

local function count_words(path)
  local file <close> = io.open(path) or error("cannot read " .. path, 0)
  local counts = {}
  for line in file:lines() do
    for word in line:lower():gmatch("%a+") do
      counts[word] = (counts[word] or 0) + 1
    end
  end
  return counts
end

local pool <close> = luapool.Pool()
local tables, errors = pool:map(count_words, arg, {on_error = "collect"})

local total, words = {}, {}
for i in ipairs(arg) do
  if errors[i] then io.stderr:write(tostring(errors[i].value), "\n") end
  for word, count in pairs(tables[i] or {}) do
    if not total[word] then words[#words + 1] = word end
    total[word] = (total[word] or 0) + count
  end
end

table.sort(words, function(a, b)
  return total[a] > total[b] or (total[a] == total[b] and a < b)
end)
for i = 1, math.min(10, #words) do
  print(("%8d %s"):format(total[words[i]], words[i]))
end
if next(errors) then os.exit(1) end
