-- SPDX-License-Identifier: MIT
-- The programs of scripts/, each in a process of its own: what it prints and
-- where, and its status. With wrong arguments: its usage, on stderr, and 2.
local lfs = require "lfs"
local script = require "spec.support.script"

local function run(name, ...)
  return script.run(("arg[0] = 'scripts/%s.lua' dofile(arg[0])"):format(name),
    {args = {...}})
end

-- What a run that ends well prints.
local function output(name, ...)
  local result = run(name, ...)
  assert.are.equal("", result.stderr)
  assert.are.equal(0, result.status)
  return result.stdout
end

local function refuses(name, ...)
  local result = run(name, ...)
  assert.are.equal("", result.stdout)
  assert.matches("^usage: luapool " .. name .. "%.lua ", result.stderr)
  assert.are.equal(2, result.status)
end

local function lines(...)
  return table.concat({...}, "\n") .. "\n"
end

describe("scripts", function()
  local dir

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(lfs.mkdir(dir))
  end)

  teardown(function()
    os.execute("rm -rf " .. script.quote(dir))
  end)

  local function write(name, text)
    local path = dir .. "/" .. name
    local file <close> = assert(io.open(path, "w"))
    file:write(text)
    return path
  end

  it("say what they show, in 6 to 40 lines", function()
    for name in lfs.dir("scripts") do
      if name:find("%.lua$") then
        local first, count = nil, 0
        for line in io.lines("scripts/" .. name) do
          first, count = first or line, count + 1
          assert(#line <= 80, name .. ": a line of more than 80 columns")
        end
        assert.matches("^%-%- shows %w", first)
        assert(count >= 6 and count <= 40, name)
      end
    end
  end)

  it("squares: the result, and both times", function()
    assert.matches("^1000 squares, the last one 301000 %* 301000 = " ..
      "90601000000\n" ..
      "serial loop  %d+%.%d%d s\n" ..
      "luapool%.map  %d+%.%d%d s\n" ..
      "speed%-up     %d+%.%d%d %(workers: %d+%)\n$",
      output("squares"))
  end)

  it("primes", function()
    assert.are.equal("78498 primes up to 1000000\n", output("primes"))
    assert.are.equal("25 primes up to 100\n", output("primes", "100"))
    assert.are.equal("0 primes up to 1\n", output("primes", "1"))
    assert.are.equal("1229 primes up to 10000\n", output("primes", "1e4"))
    assert.are.equal("1229 primes up to 10001\n", output("primes", "10001"))
    for _, wrong in ipairs {"0", "-5", "1.5", "ten", ""} do
      refuses("primes", wrong)
    end
    refuses("primes", "10", "20")
  end)

  it("montecarlo: one figure for any number of workers", function()
    local figure = output("montecarlo")
    assert.matches("^pi is about 3%.14%d+ after 4000000 draws\n$", figure)
    for _, workers in ipairs {"0", "1", "3"} do
      assert.are.equal(figure, output("montecarlo", workers))
    end
    refuses("montecarlo", "-1")
    refuses("montecarlo", "many")
    refuses("montecarlo", "1", "2")
  end)

  it("wordcount: the most frequent words of all files", function()
    local one = write("one", "The cat, the dog;\nthe END\n")
    local two = write("two", "a cat and a mouse")
    local empty = write("empty", "")
    assert.are.equal(lines("       3 the", "       2 a", "       2 cat",
      "       1 and", "       1 dog", "       1 end", "       1 mouse"),
      output("wordcount", one, empty, two))
    refuses("wordcount")
  end)

  it("wordcount: ten at most, and the rest where a file is missing", function()
    local words = write("words", "a b c d e f g h i j k a b c d e f g h i j")
    local missing = dir .. "/missing"
    local result = run("wordcount", missing, words)
    assert.are.equal("cannot read " .. missing .. "\n", result.stderr)
    assert.matches("^       2 a\n.*       2 j\n$", result.stdout)
    assert.are.equal(1, result.status)
  end)

  it("volumes: each tree and the total, serial or parallel", function()
    local trees, expected, total = {}, {}, 0
    for i = 1, 5 do
      local tree = "it's tree " .. i
      assert(lfs.mkdir(dir .. "/" .. tree))
      write(tree .. "/file", ("x"):rep(1000 * i))
      trees[i] = dir .. "/" .. tree
      local du <close> = io.popen("du -sb " .. script.quote(trees[i]))
      local size = du:read("n")
      total = total + size
      expected[i] = ("%15d %s"):format(size, trees[i])
      assert.are.equal(
        lines(table.concat(expected, "\n"), ("%15d total"):format(total)),
        output("volumes", table.unpack(trees)))
    end
    refuses("volumes")
  end)

  it("volumes: a tree that is not there is an error", function()
    for _, others in ipairs {1, 4} do
      local trees = {dir .. "/missing"}
      for i = 1, others do trees[i + 1] = dir end
      local result = run("volumes", table.unpack(trees))
      assert.are.equal("", result.stdout)
      assert.matches("cannot measure " .. trees[1], result.stderr, 1, true)
      assert.are.equal(1, result.status)
    end
  end)

  it("errors", function()
    assert.are.equal(lines(
      "raised\tfalse\ttask\titem 2\t403",
      "/\tcontents of /\t",
      "/secret\ttask\t403",
      "/crash\tlost\t3",
      "/news\tcontents of /news\t",
      "retried\tdone at the second attempt"), output("errors"))
  end)

  it("timeouts", function()
    assert.are.equal(lines(
      "square of 1\t1", "square of 2\t4", "square of 3\ttimeout",
      "square of 4\t16",
      "deadline\tfalse\ttimeout\tfirst result 1",
      "ready after 0.1 s\tfalse",
      "cancelled\ttrue"), output("timeouts"))
  end)
end)
