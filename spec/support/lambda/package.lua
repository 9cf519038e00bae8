-- SPDX-License-Identifier: MIT
-- Runs the command lambdapool that was built with the host of the specs, in a
-- directory of its own, and reads zips with Python's zipfile.
local cjson = require "cjson"
local gate = require "spec.support.gate"
local leaks = require "spec.support.leaks"
local lfs = require "lfs"
local script = require "spec.support.script"

local M = {}

local quote = script.quote
local root = lfs.currentdir()
local directories = {} -- of the test at hand

--- The command: a link beside the host.
M.command = script.interpreter():match("^(.*/)") .. "lambdapool"

--- Writes a file; the directories in its name are made.
function M.write(path, text)
  for at in path:gmatch("()/") do
    lfs.mkdir(path:sub(1, at - 1))
  end
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

--- A new directory of these files, {name = text}; gone after the test.
function M.directory(files)
  local dir = os.tmpname()
  assert(os.remove(dir) and lfs.mkdir(dir))
  directories[#directories + 1] = dir
  for name, text in pairs(files or {}) do
    M.write(dir .. "/" .. name, text)
  end
  return dir
end

--- Removes what the test made.
function M.clean()
  while #directories > 0 do
    local dir = quote(table.remove(directories))
    os.execute(("chmod -R u+rwx %s; rm -rf %s"):format(dir, dir))
  end
end

--- Guards a block: no directory of a test stays, nor anything else.
function M.guard(before_each, after_each)
  leaks.guard(before_each, after_each)
  leaks.finish(M.clean)
end

--- Runs a shell command in a directory.
-- @return {stdout=, stderr=, status=}
function M.try(dir, line)
  local out = os.tmpname()
  local _, how, code = os.execute(
    ("cd %s && { %s\n} </dev/null >%s.out 2>%s.err"):format(quote(dir), line,
      out, out))
  local result = {
    stdout = gate.read(out .. ".out"), stderr = gate.read(out .. ".err"),
    status = how == "signal" and 128 + code or code,
  }
  for _, suffix in ipairs { "", ".out", ".err" } do
    os.remove(out .. suffix)
  end
  return result
end

-- What a command printed that ended well and quietly.
local function quiet(result, what)
  if result.status ~= 0 or result.stderr ~= "" then
    error(("%s: status %d, %s"):format(what, result.status, result.stderr), 3)
  end
  return result.stdout
end

--- Runs a shell command that must end well and quietly in a directory, and
-- returns its output.
function M.shell(dir, line)
  return (quiet(M.try(dir, line), line))
end

--- Runs `lambdapool WORDS` in a directory.
-- @param before what stands in front of it in the shell: variables, limits
-- @return {stdout=, stderr=, status=}
function M.run(dir, words, before)
  return M.try(dir, ("%s %s %s"):format(before or "", quote(M.command),
    words))
end

--- The same, which must end well and quietly; returns its output.
function M.output(dir, words, before)
  return (quiet(M.run(dir, words, before), "lambdapool " .. words))
end

--- Runs a command that must fail with this status, say nothing on stdout and
-- one line on stderr, and returns that line without `lambdapool: `.
function M.failure(dir, words, status, before)
  local result = M.run(dir, words, before)
  local line = result.stderr:match("^lambdapool: ([^\n]*)\n$")
  if result.status ~= (status or 1) or result.stdout ~= "" or not line then
    error(("lambdapool %s: status %d, stdout %q, stderr %q"):format(words,
      result.status, result.stdout, result.stderr), 2)
  end
  return line
end

--- Unpacks DIR/f.zip into DIR/task as Lambda would, for any user to read.
function M.unpack(dir)
  -- Python's zipfile sets no modes.
  M.shell(dir, "python3 -BES -m zipfile -e f.zip task && chmod -R a+rX . && " ..
    "chmod 755 task/bootstrap task/luapool-runtime/l*")
end

--- The entries of a zip, in order and by name.
function M.entries(path)
  local pipe <close> = assert(io.popen(("python3 -BES %s %s"):format(
    quote(root .. "/spec/support/lambda/zip.py"), quote(path))))
  local list = cjson.decode(pipe:read("a"))
  for i, entry in ipairs(list) do
    list[entry.name] = entry
    list[i] = entry
  end
  return list
end

local function is_runtime(name)
  return name == "bootstrap" or name:find("^luapool%-runtime/") ~= nil
end

--- The names of the user's entries, in order.
function M.names(path)
  local names = {}
  for _, entry in ipairs(M.entries(path)) do
    if not is_runtime(entry.name) then names[#names + 1] = entry.name end
  end
  return table.concat(names, " ")
end

return M
