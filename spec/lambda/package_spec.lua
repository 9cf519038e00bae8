-- SPDX-License-Identifier: MIT
-- `lambdapool package`: what its zip is, the same bytes for the same input, the
-- limits and the command line. Read back with Python's zipfile.
local gate = require "spec.support.gate"
local lambdapool = require "spec.support.lambda.package"
local lfs = require "lfs"
local script = require "spec.support.script"

local directory, names = lambdapool.directory, lambdapool.names
local output, failure = lambdapool.output, lambdapool.failure
local shell = lambdapool.shell

describe("the zip", function()
  lambdapool.guard(before_each, after_each)

  it("holds the launcher, the runtime and the user's files", function()
    local dir = directory { ["app.lua"] = "return {}\n", ["run.sh"] = "#!" }
    shell(dir, "chmod 600 app.lua; chmod 700 run.sh")
    output(dir, "package app.lua run.sh -o f.zip")
    local entries = lambdapool.entries(dir .. "/f.zip")
    local modes = {}
    for i, entry in ipairs(entries) do
      assert.are.equal("1980-01-01 00:00:00", entry.date)
      assert.are.equal("100000", entry.type)
      modes[i] = entry.name .. " " .. entry.mode
    end
    assert.are.same({ "app.lua 644", "bootstrap 755" },
      table.move(modes, 1, 2, 1, {}))
    assert.are.equal("return {}\n", entries["app.lua"].text)
    assert.are.equal("755", entries["run.sh"].mode)
    assert.are.equal("755", entries["luapool-runtime/luapool"].mode)
    assert.is_table(entries["luapool-runtime/libc.so.6"])
    assert.are.equal("644", entries["luapool-runtime/lib/cjson.so"].mode)
    assert.is_table(entries["luapool-runtime/share/cjson/util.lua"])
  end)

  it("is what it says it is", function()
    local dir = directory { ["app.lua"] = "return {}" }
    local text = output(dir, "package app.lua -o f.zip")
    local size, unzipped, files = text:match(
      "^f%.zip: (%d+) bytes, (%d+) unzipped, (%d+) files, [%w_]+\n$")
    local sum, entries = 0, lambdapool.entries(dir .. "/f.zip")
    for _, entry in ipairs(entries) do sum = sum + entry.size end
    assert.are.equal(lfs.attributes(dir .. "/f.zip", "size"), tonumber(size))
    assert.are.equal(sum, tonumber(unzipped))
    assert.are.equal(#entries, tonumber(files))
    local json = require "luapool.json".decode(
      output(dir, "package app.lua -o f.zip --output-format json"))
    assert.are.same({
      file = "f.zip", bytes = tonumber(size), unzipped = sum, files = #entries,
      architecture = text:match("([%w_]+)\n"),
    }, json)
  end)

  it("has every byte of a file", function()
    local bytes = {}
    for i = 1, 200000 do bytes[i] = string.char(i * i % 251) end
    local text = table.concat(bytes)
    local dir = directory { ["src/all.bin"] = text, ["src/empty"] = "" }
    output(dir, "package src/ -o f.zip")
    shell(dir, "python3 -m zipfile -e f.zip x && " ..
      "cmp src/all.bin x/all.bin && cmp src/empty x/empty")
  end)

  it("has sorted names", function()
    local dir = directory { ["a"] = "", ["a.b"] = "", ["a-"] = "", ["B"] = "",
      ["d/z"] = "", ["d/a/b"] = "", ["d-"] = "", ["é"] = "" }
    output(dir, "package ./ -o f.zip")
    assert.are.equal("B a a- a.b d- d/a/b d/z é", names(dir .. "/f.zip"))
  end)

  it("has names in UTF-8, whatever the locale", function()
    local name = "größe/日本.lua"
    local dir = directory { [name] = "" }
    for _, locale in ipairs { "C", "C.UTF-8", "de_DE.ISO-8859-1" } do
      output(dir, "package . -o f.zip", "LC_ALL=" .. locale)
      local entry = lambdapool.entries(dir .. "/f.zip")[name]
      assert.is_true(entry.utf8)
    end
  end)

  it("replaces an older one, and is nothing but whole", function()
    local dir = directory { ["app.lua"] = "", ["f.zip"] = "old" }
    failure(dir, "package none.lua -o f.zip")
    assert.are.equal("old", gate.read(dir .. "/f.zip"))
    -- In the middle of the writing.
    local line = failure(dir, "package app.lua -o f.zip", 1,
      "trap '' XFSZ; ulimit -f 100;")
    assert.are.equal("f.zip: File too large", line)
    assert.are.equal("old", gate.read(dir .. "/f.zip"))
    assert.are.equal("app.lua\nf.zip\n", shell(dir, "ls -A"))
    output(dir, "package app.lua -o f.zip", "umask 027;")
    assert.are.equal("app.lua\nf.zip\n", shell(dir, "ls -A"))
    assert.are.equal("640\n", shell(dir, "stat -c %a f.zip"))
    assert.are.equal("app.lua", names(dir .. "/f.zip"))
  end)

  it("is dropped by Ctrl-C", function()
    local dir = directory { ["app.lua"] = "" }
    shell(dir, "truncate -s 200000000 large.bin")
    local pipe = io.popen(("cd %s && echo $$ >pid && exec %s %s 2>said"):format(
      dir, script.quote(lambdapool.command),
      "package app.lua large.bin -o f.zip"))
    gate.eventually(function()
      for name in lfs.dir(dir) do
        if name:find("^f%.zip%.") then return true end
      end
    end)
    os.execute("kill -INT " .. gate.read(dir .. "/pid"))
    assert.are.same({ nil, "exit", 130 }, { pipe:close() })
    assert.are.equal("lambdapool: interrupted\n", gate.read(dir .. "/said"))
    assert.are.equal("app.lua\nlarge.bin\npid\nsaid\n", shell(dir, "ls -A"))
  end)

  it("is never in itself", function()
    local dir = directory { ["app.lua"] = "" }
    output(dir, "package . -o f.zip")
    local first = gate.read(dir .. "/f.zip")
    output(dir, "package . -o ../" .. dir:match("[^/]*$") .. "/f.zip")
    assert.are.equal("app.lua", names(dir .. "/f.zip"))
    assert.is_true(first == gate.read(dir .. "/f.zip"))
  end)

  it("needs a place to be written to", function()
    local dir = directory { ["app.lua"] = "", ["d/x"] = "" }
    assert.matches("^none/f%.zip: No such file or directory$",
      failure(dir, "package app.lua -o none/f.zip"))
    assert.are.equal("d is there and is no file",
      failure(dir, "package app.lua -o d"))
    assert.are.equal("/dev/null is there and is no file",
      failure(dir, "package app.lua -o /dev/null"))
  end)
end)

describe("the same input makes the same bytes", function()
  lambdapool.guard(before_each, after_each)

  local FILES = { "src/app.lua", "src/lib/b.lua", "src/lib/a.lua", "src/é" }

  -- A tree of the same files, made in that order.
  local function tree(order, mode, date)
    local dir = directory()
    for _, i in ipairs(order) do
      lambdapool.write(dir .. "/" .. FILES[i], ("file %d\n"):format(i))
    end
    shell(dir, ("chmod %s src/app.lua"):format(mode))
    shell(dir, ("find src -exec touch -d '%s' {} +"):format(date))
    output(dir, "package src/ -o f.zip")
    return dir, gate.read(dir .. "/f.zip")
  end

  it("whatever times, order, modes, umask, zone, locale and place", function()
    local dir, first = tree({ 1, 2, 3, 4 }, "600", "2001-02-03")
    local _, second = tree({ 4, 3, 2, 1 }, "664", "2026-07-08 09:10:11")
    assert.is_true(first == second)
    for _, before in ipairs { "TZ=Pacific/Kiritimati", "TZ=America/Adak",
      "umask 077;", "LC_ALL=C", "LC_ALL=C.UTF-8", "cd / &&" } do
      output(dir, ("package %s/src/ -o %s/g.zip"):format(dir, dir), before)
      assert.is_true(first == gate.read(dir .. "/g.zip"), before)
    end
    output(dir .. "/src", "package . -o ../g.zip")
    assert.is_true(first == gate.read(dir .. "/g.zip"))
  end)

  it("whoever owns the files, where that can be changed", function()
    local dir, first = tree({ 1, 2, 3, 4 }, "644", "2020-01-01")
    lambdapool.try(dir, "chown -R 12345:54321 src")
    output(dir, "package src/ -o g.zip")
    assert.is_true(first == gate.read(dir .. "/g.zip"))
  end)

  it("and another input others", function()
    local dir, first = tree({ 1, 2, 3, 4 }, "644", "2020-01-01")
    shell(dir, "chmod +x src/app.lua")
    output(dir, "package src/ -o g.zip")
    assert.is_false(first == gate.read(dir .. "/g.zip"))
  end)
end)

describe("limits", function()
  lambdapool.guard(before_each, after_each)

  it("250 MB unzipped", function()
    local dir = directory { ["app.lua"] = "" }
    shell(dir, "truncate -s 262144000 large.bin")
    local line = failure(dir, "package app.lua large.bin -o f.zip")
    local size = line:match(
      "^(%d+) bytes unzipped are more than Lambda's limit of 262144000$")
    assert.is_true(tonumber(size) > 262144000)
    assert.is_nil(lfs.attributes(dir .. "/f.zip"))
  end)

  it("50 MB zipped, with a warning #slow", function()
    local dir = directory { ["app.lua"] = "" }
    shell(dir, "head -c 53000000 /dev/urandom >noise")
    local result = lambdapool.run(dir, "package app.lua noise -o f.zip")
    assert.are.equal(0, result.status)
    assert.are.equal(("lambdapool: f.zip has %d bytes, more than the " ..
      "52428800 that Lambda takes directly: deploy it from S3\n"):format(
      lfs.attributes(dir .. "/f.zip", "size")), result.stderr)
  end)

  it("a large file is not held in memory #slow", function()
    local dir = directory { ["app.lua"] = "" }
    shell(dir, "truncate -s 200000000 large.bin")
    output(dir, "package app.lua large.bin -o f.zip", "ulimit -v 150000;")
  end)
end)

describe("the command line", function()
  lambdapool.guard(before_each, after_each)

  it("helps", function()
    local dir = directory()
    assert.matches("^Usage: lambdapool ", output(dir, "--help"))
    assert.matches("\n   package +Make the zip of a function%.\n",
      output(dir, "--help"))
    assert.matches("^Usage: lambdapool package ", output(dir, "package --help"))
    for line in (output(dir, "package -h") .. output(dir, "-h"))
      :gmatch("[^\n]+") do
      assert.is_true(#line <= 80, line)
    end
  end)

  it("says what is wrong with it, and ends with 2", function()
    local dir = directory { ["app.lua"] = "" }
    local function wrong(words)
      return failure(dir, words, 2)
    end
    assert.are.equal("a command is required; see `lambdapool --help`",
      wrong(""))
    assert.are.equal("unknown command 'wrong'; see `lambdapool --help`",
      wrong("wrong"))
    assert.are.equal("unknown command 'packag' (did you mean 'package'?); " ..
      "see `lambdapool --help`", wrong("packag"))
    local see = "; see `lambdapool package --help`"
    assert.are.equal("missing argument 'PATHS'" .. see, wrong("package -o x"))
    assert.are.equal("missing option '-o'" .. see, wrong("package app.lua"))
    assert.matches("^unknown option '%-%-wrong'", wrong(
      "package app.lua --wrong -o f.zip"))
    assert.matches("^argument for option '%-%-arch' must be one of ", wrong(
      "package app.lua --arch sparc -o f.zip"))
  end)

  it("packages for this machine alone", function()
    local dir = directory { ["app.lua"] = "" }
    local own = output(dir, "package app.lua -o f.zip"):match("([%w_]+)\n$")
    local other = own == "arm64" and "x86_64" or "arm64"
    output(dir, "package app.lua -o f.zip --arch " .. own)
    assert.are.equal(("this luapool is for %s: make a package for %s with " ..
      "one that was built there"):format(own, other),
      failure(dir, "package app.lua -o f.zip --arch " .. other))
  end)

  it("needs stdout", function()
    local dir = directory { ["app.lua"] = "" }
    local result = lambdapool.run(dir, "package app.lua -o f.zip >/dev/full")
    assert.are.equal(1, result.status)
    assert.matches("cannot write to standard output\n$", result.stderr)
  end)

  it("goes by its name, from anywhere", function()
    local dir = directory { ["app.lua"] = "" }
    shell(dir, ("mkdir bin; ln -s %s bin/lambdapool"):format(
      script.quote(lambdapool.command)))
    shell(dir, "PATH=$PWD/bin:$PATH; lambdapool package app.lua -o f.zip")
    assert.are.equal("app.lua", names(dir .. "/f.zip"))
  end)
end)
