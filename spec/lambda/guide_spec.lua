-- SPDX-License-Identifier: MIT
-- docs/lambda.md from its empty folder on, as far as this machine goes: its
-- file, its commands, and what it says that they print. What is left out there
-- needs an account.
local gate = require "spec.support.gate"
local http = require "luapool.http"
local lambdapool = require "spec.support.lambda.package"
local leaks = require "spec.support.leaks"
local script = require "spec.support.script"

-- The fenced blocks of the page in order, without the indentation of lists.
local function blocks()
  local list, block, indent = {}, nil, nil
  for line in io.lines("docs/lambda.md") do
    local space, language = line:match("^(%s*)```(%w*)$")
    if space and not block then
      indent, block = #space, { language = language, text = "" }
      list[#list + 1] = block
    elseif space then
      block = nil
    elseif block then
      block.text = block.text .. line:sub(indent + 1) .. "\n"
    end
  end
  return list
end

-- The first block of a language with this text in it.
local function find(list, language, text)
  for _, block in ipairs(list) do
    if block.language == language and block.text:find(text, 1, true) then
      return block.text
    end
  end
  error("no block of " .. language .. " with " .. text)
end

-- The words of a command behind `lambdapool `.
local function words(line)
  return (line:gsub("^lambdapool ", ""):gsub(" &\n$", ""):gsub("\n$", ""))
end

local function post(url, body)
  local client <close> = http.client()
  local transfer = client:start { url = url, method = "POST", body = body,
    timeout = 20 }
  assert(client:wait(transfer))
  return assert(transfer:result())
end

-- `lambdapool local` at work in a directory: its output, and a function that
-- ends it.
local function serve(dir, line)
  local pid = dir .. "/pid"
  local pipe = assert(io.popen(
    ("cd %s && echo $$ >%s && exec %s %s --port 0 2>log"):format(
      script.quote(dir), pid, script.quote(lambdapool.command), line)))
  return pipe, function()
    os.execute("kill -INT " .. gate.read(pid))
    return pipe:close()
  end
end

describe("the guide to Lambda", function()
  leaks.guard(before_each, after_each)

  local list, dir, stop

  before_each(function()
    list = blocks()
    dir = lambdapool.directory { ["app.lua"] = find(list, "lua", "is_prime") }
  end)

  leaks.finish(function()
    if stop then stop() end
    stop = nil
  end)
  leaks.finish(lambdapool.clean)

  it("calls its function on this machine", function()
    local pipe
    pipe, stop = serve(dir, words(find(list, "sh", "lambdapool local")))
    local base = pipe:read("l"):match("^http://127%.0%.0%.1:%d+")
    local body, path = find(list, "sh", "curl"):match(
      "^curl %-d '(.-)' \\%s+http://127%.0%.0%.1:9000(/%S+)\n$")
    local answer = post(base .. path, body)
    assert.are.equal(200, answer.status)
    assert.are.equal(find(list, "output", ""), answer.body .. "\n")
    local ended = stop
    stop = nil
    assert.is_true(ended())
  end)

  it("packages it, and what its other commands name", function()
    lambdapool.output(dir, words(find(list, "sh", "-o primes.zip")))
    assert.are.equal("app.lua", lambdapool.names(dir .. "/primes.zip"))
    assert.is_truthy(find(list, "sh", "create-function")
      :find("--handler app.handler", 1, true))
  end)
end)
