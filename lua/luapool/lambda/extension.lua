-- SPDX-License-Identifier: MIT
-- An extension inside of the runtime, for one purpose: where there is one,
-- Lambda sends SIGTERM before it kills. It asks for no event, but as long as
-- its request for the next one is not open, the init phase does not end.

local log = require "luapool.lambda.log"
local text = require "luapool.lambda.text"

local M = {}

local PATIENCE = 1 -- seconds for registering, which may fail

local function register(api)
  local transfer = api:start("/2020-01-01/extension/register", {
    method = "POST",
    headers = {
      "Lambda-Extension-Name: luapool",
      "Content-Type: application/json",
    },
    body = '{"events":[]}',
    timeout = PATIENCE,
    once = true,
  })
  api:wait(transfer)
  local answer, message = transfer:result()
  if not answer then
    return nil, message
  elseif answer.status ~= 200 then
    return nil, "status " .. answer.status
  end
  local id = answer.headers["lambda-extension-identifier"]
  return id ~= "" and id or nil, "there is no identifier in the answer"
end

local Extension = {}
Extension.__index = Extension

local function open(self)
  self.transfer = self.api:start("/2020-01-01/extension/event/next", {
    method = "GET",
    headers = { "Lambda-Extension-Identifier: " .. text.echo(self.id) },
    once = true, -- whether it is asked again is for `renew` to say
  })
end

--- Registers, and opens the request. Where that fails there is no extension.
-- @param api see luapool.lambda.api
-- @return an extension, whose transfer goes on while others are waited for; or
--   nil
function M.start(api)
  local id, message = register(api)
  if not id then
    log.write("DEBUG", nil, "could not register as an extension: " .. message)
    return nil
  end
  local self = setmetatable({ api = api, id = id }, Extension)
  open(self)
  return self
end

--- Opens the request again where it has ended, unless it was refused.
function Extension:renew()
  if not self.transfer or not self.api:wait(self.transfer, 0) then
    return
  end
  local answer = self.transfer:result()
  self.transfer = nil
  if not answer or answer.status == 200 then
    open(self)
  end
end

return M
