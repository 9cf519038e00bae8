-- SPDX-License-Identifier: MIT
-- The PATHS of `lambdapool package`: where files go in the zip, what never gets
-- there, and what is refused.
local lambdapool = require "spec.support.lambda.package"
local lfs = require "lfs"

local directory, names = lambdapool.directory, lambdapool.names
local output, failure = lambdapool.output, lambdapool.failure
local shell = lambdapool.shell

describe("PATHS", function()
  lambdapool.guard(before_each, after_each)

  local function tree()
    return directory { ["src/app.lua"] = "", ["src/lib/util.lua"] = "",
      ["src/lib/deep/x.lua"] = "", ["other.lua"] = "" }
  end

  -- What the zip of these paths holds, packaged in a directory of dir.
  local function packaged(dir, paths, where)
    output(dir, ("package -o %s/f.zip -- %s"):format(dir, paths),
      where and "cd " .. where .. " &&")
    return names(dir .. "/f.zip")
  end

  it("files go to the root, directories under their names", function()
    local dir = tree()
    local all = "src/app.lua src/lib/deep/x.lua src/lib/util.lua"
    assert.are.equal("other.lua " .. all, packaged(dir, "src other.lua"))
    assert.are.equal("app.lua lib/deep/x.lua lib/util.lua",
      packaged(dir, "src/app.lua src/lib"))
    assert.are.equal("app.lua", packaged(dir, dir .. "/src/app.lua"))
  end)

  it("a slash or a dot at the end means what is in it", function()
    local dir = tree()
    local inner = "app.lua lib/deep/x.lua lib/util.lua"
    for _, path in ipairs { "src/", "src//", "src/.", "./src/./",
      dir .. "/src/", "src/lib/.." } do
      assert.are.equal(inner, packaged(dir, path), path)
    end
    assert.are.equal(inner, packaged(dir, ".", "src"))
    assert.are.equal(inner, packaged(dir, "..", "src/lib"))
    assert.are.equal("app.lua deep/x.lua lib/deep/x.lua lib/util.lua util.lua",
      packaged(dir, "src/ src/lib/"))
  end)

  it("a file given twice is there once", function()
    assert.are.equal("other.lua", packaged(tree(), "other.lua ./other.lua"))
  end)

  it("empty directories are kept, empty inputs refused", function()
    local dir = tree()
    shell(dir, "mkdir -p src/none/deeper empty")
    assert.are.equal(
      "src/app.lua src/lib/deep/x.lua src/lib/util.lua src/none/deeper/",
      packaged(dir, "src"))
    local entry = lambdapool.entries(dir .. "/f.zip")["src/none/deeper/"]
    assert.are.same({ "755", "40000" }, { entry.mode, entry.type })
    assert.are.equal("there is no file in empty/",
      failure(dir, "package empty/ -o f.zip"))
  end)

  it("names with a dash, spaces, quotes and patterns", function()
    local dir = directory { ["-x"] = "", ["a b'c\"d"] = "",
      ["%d*?[a].lua"] = "" }
    assert.are.equal("%d*?[a].lua -x a b'c\"d", packaged(dir, "./"))
    assert.are.equal("-x", packaged(dir, "-x"))
    assert.are.equal("%d*?[a].lua", packaged(dir, "'%d*?[a].lua'"))
  end)

  it("secrets, version control and rubbish stay out", function()
    local dir = directory { ["app.lua"] = "" }
    for _, name in ipairs { ".env", ".env.production", "conf/.env", ".envrc",
      ".git/config", "lib/.git", ".hg/x", ".svn/x", ".gitignore", "app.lua~",
      ".app.lua.swp", "#app.lua#", ".DS_Store", ".idea/x", "lib/x.lua",
      ".envoy", "env", "git" } do
      lambdapool.write(dir .. "/" .. name, "")
    end
    shell(dir, "ln -s user@host.123:456 '.#app.lua'")
    assert.are.equal(".envoy app.lua conf/ env git lib/x.lua",
      packaged(dir, "."))
    assert.are.equal(".env is never packaged: it holds secrets",
      failure(dir, "package .env -o f.zip"))
    assert.matches("^%.git is never packaged",
      failure(dir, "package app.lua .git -o f.zip"))
    shell(dir, "ln -s .env settings")
    assert.matches("^settings is never packaged",
      failure(dir, "package settings -o f.zip"))
    assert.matches("^the link %./settings points at .*/%.env, which is never",
      failure(dir, "package ./ -o f.zip"))
  end)

  it("links become what they point at, inside", function()
    local dir = directory { ["src/a.lua"] = "a", ["src/d/b.lua"] = "b" }
    shell(dir, "ln -s a.lua src/c.lua; ln -s ../a.lua src/d/c.lua; " ..
      "ln -s d src/e; ln -s src s")
    assert.are.equal("s/a.lua s/c.lua s/d/b.lua s/d/c.lua s/e/b.lua s/e/c.lua",
      packaged(dir, "s"))
    local entries = lambdapool.entries(dir .. "/f.zip")
    assert.are.equal("a", entries["s/e/c.lua"].text)
    assert.are.equal("100000", entries["s/e/c.lua"].type)
    assert.are.equal("c.lua", packaged(dir, "c.lua", "src/d"))
  end)

  it("links out of the directory, to nothing and in circles are errors",
    function()
      local dir = directory { ["src/a"] = "", ["src2/x"] = "" }
      local function refused(target)
        shell(dir, "ln -sfn " .. target .. " src/link")
        return failure(dir, "package src -o f.zip")
      end
      assert.are.equal("the link src/link points out of src, at /etc/passwd",
        refused("/etc/passwd"))
      assert.matches("^the link src/link points out of src, at .*/src2/x$",
        refused("../src2/x"))
      assert.matches("^the link src/link points out of src, at ", refused(".."))
      assert.are.equal("the link src/link points at nothing", refused("none"))
      assert.are.equal("the link src/link points at nothing", refused("link"))
      assert.are.equal(
        "the link src/link points at a directory that it is in", refused("."))
      assert.is_nil(lfs.attributes(dir .. "/f.zip"))
    end)

  it("what is no file is an error", function()
    local dir = directory { ["src/a"] = "" }
    assert.are.equal("none: No such file or directory",
      failure(dir, "package none -o f.zip"))
    shell(dir, "mkfifo src/pipe")
    assert.are.equal("src/pipe is neither a file nor a directory",
      failure(dir, "package src -o f.zip"))
    assert.are.equal("/dev/null is neither a file nor a directory",
      failure(dir, "package /dev/null -o f.zip"))
  end)

  it("what cannot be read is an error", function()
    local dir = directory { ["src/a"] = "", ["src/d/b"] = "" }
    shell(dir, "chmod 000 src/a; mkdir out")
    -- Root, but with its own files as unreadable as anybody's.
    local root = shell(dir, "id -u") == "0\n"
    local user = root
      and "setpriv --bounding-set=-dac_override,-dac_read_search" or ""
    assert.are.equal("src/a: Permission denied",
      failure(dir, "package src -o out/f.zip", 1, user))
    shell(dir, "chmod 644 src/a; chmod 000 src/d")
    assert.are.equal("src/d: Permission denied",
      failure(dir, "package src -o out/f.zip", 1, user))
    assert.are.equal("", shell(dir, "ls -A out"))
  end)

  it("names that are not text are errors", function()
    local dir = directory { ["src/a\nb"] = "" }
    assert.are.equal(
      [[the name of "src/a\nb" has a control character]],
      failure(dir, "package src -o f.zip"))
    local latin = directory { ["src/gr\xf6\xdfe"] = "" }
    assert.matches("^the name of \"src/gr.*\" is not UTF%-8$",
      failure(latin, "package src -o f.zip"))
  end)

  it("two inputs for one name are an error that names both", function()
    local dir = directory { ["a/x.lua"] = "1", ["b/x.lua"] = "1",
      ["c/x.lua/y"] = "" }
    assert.are.equal("two inputs for 'x.lua' in the zip: a/x.lua and b/x.lua",
      failure(dir, "package a/x.lua b/x.lua -o f.zip"))
    assert.are.equal("two inputs for 'x.lua' in the zip: a/x.lua and b/x.lua",
      failure(dir, "package a/ b/ -o f.zip"))
    assert.are.equal(
      "two inputs for 'x.lua' in the zip: a/x.lua and c/x.lua/y",
      failure(dir, "package a/ c/ -o f.zip"))
  end)

  it("luapool's own names are taken", function()
    for _, name in ipairs { "bootstrap", "luapool-runtime/x", "bootstrap/x" } do
      local dir, base = directory { [name] = "" }, name:match("^[^/]+")
      assert.are.equal(("./%s would be '%s' in the zip, a name that luapool " ..
        "needs"):format(base, base), failure(dir, "package ./ -o f.zip"))
    end
  end)
end)
