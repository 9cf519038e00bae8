-- SPDX-License-Identifier: MIT
-- `lambdapool package`: the zip of a function, from the user's files, luapool's
-- runtime and the modules of --requirements. The same input makes the same
-- bytes.
local bundle = require "luapool.lambda.bundle"
local companion = require "luapool.lambda.companion"
local contents = require "luapool.lambda.contents"
local disk = require "luapool.disk"
local failure = require "luapool.lambda.failure"
local files = require "luapool.lambda.files"
local json = require "luapool.json"
local mentions = require "luapool.lambda.mentions"
local requirements = require "luapool.lambda.requirements"

local M = {}

M.summary = "Make the zip of a function."

-- Lambda's limits, in bytes.
local MAX_ZIPPED = 50 * 1024 * 1024 -- from S3 it may be more
local MAX_UNZIPPED = 262144000

--- Adds the arguments to an argparse command.
function M.define(command)
  command:argument("PATHS", "Files, which go to the root of the zip, and " ..
    "directories, which go there under their own name; what DIR/ or . " ..
    "holds goes to the root itself."):args("+"):target("paths")
  command:option("-o --output", "The zip to write."):argname("FILE"):count(1)
  command:option("-r --requirements", "A file of Lua modules to include, " ..
    "one a line."):argname("FILE")
  command:option("--arch", "The function's architecture (default: this " ..
    "machine's)."):choices { "x86_64", "arm64" }
  command:option("--output-format", "What to print.")
    :choices { "text", "json" }:default("text")
end

local function note(format, ...)
  io.stderr:write("lambdapool: ", format:format(...), "\n")
end

-- The path of the output file as a walk would see it, nil where there is none.
local function existing(output)
  local kind = disk.stat(output)
  if kind and kind ~= "file" and kind ~= "link" then
    failure.raise("%s is there and is no file", output)
  end
  return kind and disk.realpath(output)
end

local function check_machine(machine, arch)
  if arch and arch ~= machine then
    failure.raise("this luapool is for %s: make a package for %s with one " ..
      "that was built there", machine, arch)
  end
end

--- What the zip of these options holds.
-- @tparam table o paths, requirements, arch, output: as the command line has
-- them
-- @return contents, and the architecture
function M.collect(o)
  local all = contents.new()
  local runtime = bundle.new(all)
  check_machine(runtime.machine, o.arch)
  files.add(o.paths, all, o.output and existing(o.output))
  if o.requirements then
    requirements.add(runtime, o.requirements, note)
  end
  mentions.check(all, note)
  if all:size() > MAX_UNZIPPED then
    failure.raise("%d bytes unzipped are more than Lambda's limit of %d",
      all:size(), MAX_UNZIPPED)
  end
  return all, runtime.machine
end

local function put(zip, entry)
  if entry.directory then
    return zip:directory(entry.name .. "/")
  end
  return zip:file(entry.name, entry.executable and 0x1ed or 0x1a4, entry.path)
end

--- Writes a zip.
-- @return its size in bytes
function M.write(all, output)
  local archive = companion.load("archive")
  local zip <close> = failure.check(archive.create(output))
  for _, entry in ipairs(all:sorted()) do
    failure.check(put(zip, entry))
  end
  return (failure.check(zip:commit()))
end

local show = {}

function show.text(result)
  print(("%s: %d bytes, %d unzipped, %d files, %s"):format(result.file,
    result.bytes, result.unzipped, result.files, result.architecture))
end

function show.json(result)
  print((failure.check(json.encode(result))))
end

--- Runs the command.
function M.run(o)
  local all, machine = M.collect(o)
  local size = M.write(all, o.output)
  if size > MAX_ZIPPED then
    note("%s has %d bytes, more than the %d that Lambda takes directly: " ..
      "deploy it from S3", o.output, size, MAX_ZIPPED)
  end
  show[o.output_format] {
    file = o.output, bytes = size, unzipped = all:size(),
    files = #all:sorted(), architecture = machine,
  }
end

return M
