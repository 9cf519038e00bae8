-- SPDX-License-Identifier: MIT
-- Runs a Lua script as a program of its own, in the interpreter that runs the
-- specs, with its module paths and a hard time limit. What the script leaves
-- running is found by a mark in its environment, killed, and an error.
local gate = require "spec.support.gate"
local lfs = require "lfs"

local M = {}

local LIMIT = 30 -- seconds a script may take
local LINGER = 2 -- seconds after its end in which all of it must be gone

--- The interpreter that runs this spec.
function M.interpreter()
  local path = assert(lfs.symlinkattributes("/proc/self/exe", "target"))
  return (path:gsub(" %(deleted%)$", ""))
end

--- A word for the shell.
function M.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- Living processes with the mark in their environment: {pid = command}.
local function marked(mark)
  local found = {}
  for name in lfs.dir("/proc") do
    if name:find("^%d+$") then
      local dir = "/proc/" .. name .. "/"
      if gate.read(dir .. "environ"):find(mark, 1, true) then
        found[name] = gate.read(dir .. "cmdline"):gsub("%z", " ")
      end
    end
  end
  return found
end

-- Raises an error, after killing them, where processes with the mark stay.
local function nothing_left(mark)
  local limit = gate.now() + LINGER
  local left = marked(mark)
  while next(left) and gate.now() < limit do
    gate.sleep(0.01)
    left = marked(mark)
  end
  local list = {}
  for pid, command in pairs(left) do
    os.execute("kill -KILL " .. pid .. " 2>/dev/null")
    list[#list + 1] = pid .. " (" .. command .. ")"
  end
  if #list > 0 then
    error("the script left processes: " .. table.concat(list, ", "), 3)
  end
end

-- The settings of the environment, as words for env(1).
local function environment(mark, extra)
  local words = { "env -u LUA_INIT -u LUA_INIT_5_4" }
  local set = {
    LUAPOOL_SPEC_MARK = mark,
    LUA_PATH_5_4 = package.path,
    LUA_CPATH_5_4 = package.cpath,
  }
  for name, value in pairs(extra or {}) do set[name] = value end
  for name, value in pairs(set) do
    words[#words + 1] = M.quote(name .. "=" .. value)
  end
  return table.concat(words, " ")
end

-- The command line: stdout and stderr into files.
local function command(opts, mark, file, out)
  local words = {
    environment(mark, opts.env),
    "timeout -k 2 " .. (opts.limit or LIMIT),
    M.quote(M.interpreter()),
    opts.by_stdin and "-" or M.quote(file),
  }
  for _, arg in ipairs(opts.args or {}) do words[#words + 1] = M.quote(arg) end
  words[#words + 1] = "<" .. M.quote(opts.by_stdin and file or "/dev/null")
  words[#words + 1] = "2>" .. M.quote(out .. ".err")
  if opts.pipe then words[#words + 1] = "| cat" end
  words[#words + 1] = ">" .. M.quote(out .. ".out")
  local line = table.concat(words, " ")
  return opts.pipe and line or "exec " .. line
end

--- Runs a script. `luapool` is a local in it already.
-- @param text the script
-- @param opts args: a list; env: a table; limit: seconds; pipe: stdout is a
--   pipe (the status is then 0); by_stdin: the interpreter reads the script
--   from stdin
-- @return {stdout=, stderr=, status=}; status is 128 + the signal, 124 where
--   the time was up
function M.run(text, opts)
  opts = opts or {}
  local out = os.tmpname()
  write(out .. ".lua", 'local luapool = require "luapool" ' .. text)
  local _, how, code = os.execute(command(opts, out, out .. ".lua", out))
  local result = {
    stdout = gate.read(out .. ".out"),
    stderr = gate.read(out .. ".err"),
    status = how == "signal" and 128 + code or code,
  }
  for _, suffix in ipairs { "", ".lua", ".out", ".err" } do
    os.remove(out .. suffix)
  end
  nothing_left(out)
  return result
end

--- Runs a script that must succeed silently but for its stdout, and returns
-- that.
function M.output(text, opts)
  local result = M.run(text, opts)
  if result.status ~= 0 or result.stderr ~= "" then
    error(("the script ended with status %d: %s%s"):format(result.status,
      result.stdout, result.stderr), 2)
  end
  return result.stdout
end

return M
