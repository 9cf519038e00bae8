-- SPDX-License-Identifier: MIT
-- Runs one command line of a Lua interpreter, in a directory of its own, under
-- the name "lua" and with next to no environment: what the interpreter says of
-- itself is then the same for each.
local M = {}

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

--- An absolute path: the commands run elsewhere.
function M.absolute(path)
  local pipe <close> = assert(io.popen(
    ('realpath "$(command -v %s)"'):format(quote(path))))
  return (assert(pipe:read("l"), "no " .. path))
end

-- The words before the command: its environment and its limits.
local function prefix(opts)
  local words = { "env -i PATH=/usr/bin:/bin TERM=dumb" }
  for name, value in pairs(opts.env or {}) do
    words[#words + 1] = quote(name .. "=" .. value)
  end
  words[#words + 1] = "timeout -k 2 20 bash -c"
  return table.concat(words, " ")
end

--- Runs `line`, in bash, where `lua` is the interpreter and $LUA its path.
-- @param interpreter an absolute path
-- @param line the command
-- @param opts files: {name = contents} of its directory; env: its environment;
--   stdin: contents
-- @return {stdout=, stderr=, status=}
function M.run(interpreter, line, opts)
  opts = opts or {}
  local out = os.tmpname()
  local dir = out .. ".d"
  assert(os.execute("mkdir " .. dir))
  for name, text in pairs(opts.files or {}) do
    write(dir .. "/" .. name, text)
  end
  write(out .. ".in", opts.stdin or "")
  line = ('LUA=%s; lua() { (exec -a lua "$LUA" "$@"); }; %s'):format(
    quote(interpreter), line)
  local _, _, status = os.execute(("cd %s && %s %s <%s >%s 2>%s"):format(dir,
    prefix(opts), quote(line), out .. ".in", out .. ".out", out .. ".err"))
  local result = {
    stdout = read(out .. ".out"),
    stderr = read(out .. ".err"),
    status = status,
  }
  os.execute(("rm -rf %s %s.*"):format(dir, out))
  os.remove(out)
  return result
end

return M
