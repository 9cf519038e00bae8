-- SPDX-License-Identifier: MIT
-- `luapool.archive` by itself: what lambdapool does not come across by being
-- careful before.
local disk = require "luapool.disk"
local gate = require "spec.support.gate"
local lambdapool = require "spec.support.lambda.package"
local lfs = require "lfs"

local archive = require "luapool.lambda.companion".load "archive"

describe("an archive", function()
  lambdapool.guard(before_each, after_each)

  local dir, path

  before_each(function()
    dir = lambdapool.directory { ["file"] = "text" }
    path = dir .. "/f.zip"
  end)

  local function names()
    local list = disk.names(dir)
    table.sort(list)
    return table.concat(list, " ")
  end

  it("takes data, files and directories", function()
    local zip <close> = archive.create(path)
    assert.is_true(zip:data("a", 420, "\0\255"))
    assert.is_true(zip:data("b", 493, ""))
    assert.is_true(zip:directory("d/"))
    assert.is_true(zip:file("e", 384, dir .. "/file"))
    assert.are.equal(lfs.attributes(path), nil)
    local size = zip:commit()
    assert.are.equal(lfs.attributes(path, "size"), size)
    local entries = lambdapool.entries(path)
    assert.are.equal("\0\195\191", entries.a.text)
    assert.are.same({ "644", "755", "755", "600" }, { entries.a.mode,
      entries.b.mode, entries["d/"].mode, entries.e.mode })
    assert.are.equal("text", entries.e.text)
    assert.are.equal("f.zip file", names())
  end)

  it("that is not committed leaves nothing", function()
    do
      local zip <close> = archive.create(path)
      assert.is_true(zip:data("a", 420, ("x"):rep(1e6)))
      assert.are_not.equal("file", names())
    end
    assert.are.equal("file", names())
    archive.create(path)
    collectgarbage()
    assert.are.equal("file", names())
  end)

  it("says what went wrong, and with which file", function()
    local zip <close> = archive.create(path)
    local none = dir .. "/none"
    assert.are.same({ nil, none .. ": No such file or directory", 2 },
      { zip:file("a", 420, none) })
    assert.are.same({ nil, dir .. ": Invalid argument", 22 },
      { zip:file("a", 420, dir) })
    -- Its size is 0, and still there is something to read.
    assert.are.same({ nil, "/proc/version: changed while it was read", 16 },
      { zip:file("a", 420, "/proc/version") })
    assert.are.same({ nil, none .. "/x: No such file or directory", 2 },
      { archive.create(none .. "/x") })
  end)

  it("that is closed takes nothing more", function()
    local zip = archive.create(path)
    zip:close()
    zip:close()
    for _, name in ipairs { "data", "file", "directory", "commit" } do
      assert.error_matches(function() zip[name](zip, "a", 420, "") end,
        "bad argument #1 to .* %(the archive is closed%)")
    end
    assert.error_matches(function() zip.commit(1) end,
      "luapool%.zip expected, got number")
    local other <close> = archive.create(path)
    assert.error_matches(function() other:data("a", 4096, "") end,
      "bad argument .*no permissions")
  end)

  it("does not wait for a pipe", function()
    lambdapool.shell(dir, "mkfifo pipe")
    local zip <close> = archive.create(path)
    local from = gate.now()
    assert.are.same({ nil, dir .. "/pipe: Invalid argument", 22 },
      { zip:file("a", 420, dir .. "/pipe") })
    assert.is_true(gate.now() - from < 5)
  end)
end)
