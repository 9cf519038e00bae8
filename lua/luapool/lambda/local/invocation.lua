-- SPDX-License-Identifier: MIT
-- One invocation: what the caller asked for, what the function is told of it,
-- the end of its log, and how it came out. The endpoint makes them, a sandbox
-- runs them, and `done` hears of the outcome.

local host = require "luapool.host"
local ids = require "luapool.lambda.local.ids"

local M = {}

local TAIL = 4096 -- bytes of a log that a caller may ask for

local Invocation = {}
Invocation.__index = Invocation

--- A new one.
-- @tparam table fields event: its JSON; client_context (JSON), trace_id,
--   tenant_id: where they were sent; done: called with the invocation once it
--   has come out; write: called with each piece of an answer in pieces, where
--   the caller wants them as they come
function M.new(fields)
  local self = setmetatable(fields, Invocation)
  self.id = ids.uuid()
  self.trace_id = self.trace_id or ids.trace()
  self.tail = ""
  return self
end

--- Its time begins.
-- @number timeout seconds
function Invocation:begin(timeout)
  self.begun = host.clock()
  self.due = self.begun + timeout
  self.deadline_ms = host.wall_clock() + math.floor(timeout * 1000)
end

--- Remembers what was printed.
function Invocation:log(text)
  self.tail = (self.tail .. text):sub(-TAIL)
end

--- It came out so. Only the first outcome counts.
-- @string payload for the caller
-- @bool failed whether that is the error of the function
function Invocation:settle(payload, failed)
  if self.payload then return end
  self.payload, self.failed = payload, failed
  self:done()
end

return M
