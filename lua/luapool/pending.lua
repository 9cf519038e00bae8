-- SPDX-License-Identifier: MIT
-- What a pool has not done yet, for people: which items run, how many wait. For
-- the error of a wait that was cut short, and the account of what was ended.

local M = {}

-- Items named, tasks described and lines given at most.
local MOST_ITEMS, MOST_TASKS, MOST_LINES = 8, 5, 20

-- One group a call of the map family, one for all calls of one task that have
-- the same function.
local function group_of(groups, call)
  local label = call:label() or "a function"
  local key = call.single and label or call
  local group = groups.by[key]
  if not group then
    group = { label = label, single = call.single, running = {}, waiting = 0 }
    groups.by[key] = group
    table.insert(groups, group)
  end
  return group
end

-- Adds what a scheduler has.
local function add(groups, scheduler)
  local running = {} -- call -> how many of its items
  for _, seat in ipairs(scheduler.seats) do
    if seat:at_work() then
      local chunk, index = seat:running()
      if chunk then
        local call = chunk.call
        running[call] = (running[call] or 0) + 1
        table.insert(group_of(groups, call).running, index)
      end
    end
  end
  for _, call in ipairs(scheduler:all_calls()) do
    local waiting = call.pending - (running[call] or 0)
    if waiting > 0 then
      local group = group_of(groups, call)
      group.waiting = group.waiting + waiting
    end
  end
end

--- What these schedulers have pending.
-- @return a list of groups: label, single, running (indexes, sorted), waiting
function M.of(schedulers)
  local groups = { by = {} }
  for _, s in ipairs(schedulers) do
    add(groups, s)
  end
  for _, group in ipairs(groups) do
    table.sort(group.running)
  end
  return groups
end

-- ------------------------------------------------------------------ one text

-- "1, 2 and 3", of the first few.
local function enumerate(list)
  local shown = table.move(list, 1, math.min(#list, MOST_ITEMS), 1, {})
  local last = table.remove(shown)
  if #list > MOST_ITEMS then
    table.insert(shown, last)
    last = ("%d more"):format(#list - MOST_ITEMS)
  end
  return #shown > 0 and table.concat(shown, ", ") .. " and " .. last or last
end

local function running_text(group)
  local n = #group.running
  if group.single then
    return n == 1 and "running" or ("%d running"):format(n)
  end
  return ("item%s %s running"):format(n == 1 and "" or "s",
    enumerate(group.running))
end

local function describe(group)
  local parts = {}
  if group.running[1] then
    table.insert(parts, running_text(group))
  end
  if group.single and group.waiting == 1 and not parts[1] then
    table.insert(parts, "not started")
  elseif group.waiting > 0 then
    table.insert(parts, ("%d not started"):format(group.waiting))
  end
  return ("%s (%s)"):format(group.label, table.concat(parts, ", "))
end

--- One line on all of it; nil where nothing is pending.
function M.text(groups)
  local parts = {}
  for i = 1, math.min(#groups, MOST_TASKS) do
    parts[i] = describe(groups[i])
  end
  if #groups > MOST_TASKS then
    table.insert(parts, ("%d more calls"):format(#groups - MOST_TASKS))
  end
  return parts[1] and table.concat(parts, "; ")
end

-- ----------------------------------------------------------------- the lines

local function running_line(group, index)
  return group.single and group.label .. " (running)"
    or ("%s, item %d (running)"):format(group.label, index)
end

local function waiting_line(group)
  local n = group.waiting
  if group.single and n == 1 then
    return group.label .. " (not started)"
  end
  return ("%s, %d %s%s not started"):format(group.label, n,
    group.single and "call" or "item", n == 1 and "" or "s")
end

-- Both add to a list that is cut off after some lines, and count all.
local function add_line(list, line)
  list.n = list.n + 1
  if list.n <= MOST_LINES then
    table.insert(list, line())
  end
end

local function add_lines(list, group)
  for _, index in ipairs(group.running) do
    add_line(list, function() return running_line(group, index) end)
  end
  if group.waiting > 0 then
    add_line(list, function() return waiting_line(group) end)
  end
end

--- One line a running task, one for those of a call that wait; by function.
-- @treturn {string,...} "... and N more" in the end where they are too many
function M.lines(groups)
  local list = { n = 0 }
  table.sort(groups, function(a, b) return a.label < b.label end)
  for _, group in ipairs(groups) do
    add_lines(list, group)
  end
  if list.n > MOST_LINES then
    table.insert(list, ("... and %d more"):format(list.n - MOST_LINES))
  end
  list.n = nil
  return list
end

return M
