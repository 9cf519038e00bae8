-- SPDX-License-Identifier: MIT
-- Is the sandbox that the specs run in what AWS Lambda gives? Outside of it
-- there is nothing to ask.
if not os.getenv "LUAPOOL_SANDBOX" then return end

local lfs = require "lfs"

local function names(dir)
  local list = {}
  for name in lfs.dir(dir) do
    if not name:find("^%.") then list[#list + 1] = name end
  end
  table.sort(list)
  return table.concat(list, " ")
end

local function output(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read("a")
end

describe("the sandbox", function()
  it("has no device but Lambda's", function()
    assert.are.equal("full null random stderr stdin stdout urandom zero",
      names("/dev"))
  end)

  it("can write to /tmp alone", function()
    for _, dir in ipairs { "/", "/var/task/", "/dev/", "/usr/", "/etc/" } do
      local file, message = io.open(dir .. "x", "w")
      assert.is_nil(file, dir)
      assert.is_truthy(message:find("Read-only file system", 1, true), message)
    end
    local name = os.tmpname()
    assert.is_truthy(name:find("^/tmp/"))
    assert(os.remove(name))
  end)

  it("has 1024 files and processes, and leaves no core", function()
    assert.are.equal("1024 1024 0\n",
      output("bash -c 'echo $(ulimit -n) $(ulimit -u) $(ulimit -c)'"))
  end)

  it("is an ordinary user without rights", function()
    assert.are.equal("993 990\n", output("echo $(id -u) $(id -g)"))
    assert.are.equal("0000000000000000\n",
      output("sed -n 's/^CapEff:.//p' /proc/self/status"))
  end)

  it("has no network", function()
    local list = {}
    for line in io.lines("/proc/net/dev") do
      list[#list + 1] = line:match("(%w+):")
    end
    assert.are.same({ "lo" }, list)
  end)
end)
