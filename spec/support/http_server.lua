-- SPDX-License-Identifier: MIT
-- The server of http_server.py, for the specs of HTTP.
local gate = require "spec.support.gate"

local M = {}

local server, out, port

--- Starts it; it ends with stop, or with this process.
function M.start()
  out = os.tmpname()
  server = assert(io.popen(
    "exec python3 -BES spec/support/http_server.py >" .. out, "w"))
  port = gate.eventually(function() return gate.read(out):match("%d+\n") end,
    20, "the server's start"):match("%d+")
end

function M.stop()
  server:close()
  os.remove(out)
end

function M.address() return "127.0.0.1:" .. port end

function M.url(path) return "http://" .. M.address() .. path end

return M
