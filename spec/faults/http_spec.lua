-- SPDX-License-Identifier: MIT
-- HTTP while memory is short: a call raises or says so, and nothing is left.
local faults = require "spec.support.faults"
local server = require "spec.support.http_server"

describe("the n-th allocation that fails", function()
  setup(server.start)
  teardown(server.stop)
  faults.guard(before_each, after_each)

  -- For n = 1, 2 ... until nothing fails any more. The client is kept, so that
  -- what failed must leave it fit for the next.
  local function sweep(body, step)
    assert.equal("true\n", faults.output(([[
      local http = require "luapool.http"
      local url, step = %q, %d
      local client, failures = http.client(), 0
      local function ask(request)
        request.url = url .. (request.path or "/echo")
        request.path = nil
        local t <close> = client:start(request)
        if request.streaming then
          assert(t:write("streamed"))
          assert(t:finish { "A: b" })
        end
        client:wait(t, 10)
        return assert(t:result()).body
      end
      local function body() %s end
      for _, for_good in ipairs {false, true} do
        local n = 0
        repeat
          n = n + step
          harm.starve(n, for_good)
          local ok, e = pcall(body)
          local failed = harm.starve(0)
          if not ok then failures = failures + 1 end
          if not ok and not e:lower():find("memory") then
            print("unclear", n, for_good, e)
          end
          assert(ask { body = "sound" } == "sound")
        until not failed
      end
      client:close()
      print(failures > 20)
    ]]):format(server.url "", step, body), { env = faults.preload("starve"),
      limit = 60 }))
  end

  local bodies = {
    ["leaves nothing of a client"] = [[
      local other <close> = http.client()
      other:wait(other:start { url = url .. "/echo" }, 10)
    ]],
    ["leaves nothing of a request"] = [[
      local big = ("x"):rep(300000)
      assert(ask { body = big, headers = { "A: b", "C:" } } == big)
      ask { path = "/headers" }
    ]],
    ["leaves nothing of a stream"] = [[
      ask { streaming = true, headers = { "Trailer: A" } }
    ]],
  }
  for what, body in pairs(bodies) do
    it(what, function() sweep(body, 1) end)
  end
end)
