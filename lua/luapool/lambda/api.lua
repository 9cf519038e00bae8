-- SPDX-License-Identifier: MIT
-- Lambda's Runtime API, over one libcurl multi handle. A GET may be asked
-- again, a POST never is: an invocation has one answer, and whether a lost one
-- has arrived nobody knows.

local host = require "luapool.host"
local http = require "luapool.http"
local text = require "luapool.lambda.text"

local M = {}

local ANSWER = 30 -- seconds that a POST may take, body and answer
local CLOSING = 0.002 -- seconds that the end of a connection takes to arrive
local LOST = 3 -- failed connections in a row that end the runtime

local Api = {}
Api.__index = Api

-- A bare IPv6 literal needs its brackets: all of it, or up to the port.
local function bracketed(authority)
  if not authority:find("^[%x:.]*:[%x:.]*:[%x:.]*$") then
    return authority
  end
  local literal, port = authority:match("^(.*:.*:.*):(%d+)$")
  if literal then
    return ("[%s]:%s"):format(literal, port)
  end
  return ("[%s]"):format(authority)
end

-- What AWS_LAMBDA_RUNTIME_API may hold: host:port, with or without a scheme, a
-- base path behind it.
local function base_of(address)
  local scheme, rest = address:match("^(%a[%w+.-]*://)(.*)$")
  local authority, path = (rest or address):match("^([^/]*)(.*)$")
  return (scheme or "http://") .. bracketed(authority) .. path:gsub("/+$", "")
end

--- @string address the value of AWS_LAMBDA_RUNTIME_API
function M.new(address)
  return setmetatable({ client = http.client(), base = base_of(address) }, Api)
end

--- Starts a request below the base path.
-- @string path from its version on
-- @tparam table request as http's client:start has it, but for the url
function Api:start(path, request)
  request.url = self.base .. path
  return self.client:start(request)
end

--- Raises an error where SIGINT has come during one of http's waits.
function M.raise_interrupt()
  if host.interrupted() then
    error("interrupted!", 0)
  end
end

--- Waits until it is over.
-- @number[opt] seconds at most; default: for ever
-- @return whether it is over
-- @raise at SIGINT
function Api:wait(transfer, seconds)
  local over
  repeat
    over = self.client:wait(transfer, seconds)
    if over == nil then
      M.raise_interrupt()
    end
  until over ~= nil
  return over
end

local function perform(self, path, request)
  local transfer = self:start(path, request)
  self:wait(transfer)
  return transfer:result()
end

-- ------------------------------------------------------------------ next

-- A moment that doubles, so that an API that is in trouble is not hammered.
local function pause(n)
  if n > 0 then
    host.poll({}, math.min(0.1, 0.005 * 2 ^ n))
  end
end

-- Sent once as well: what libcurl would repeat by itself is counted here.
local NEXT = "/2018-06-01/runtime/invocation/next"

--- The next event. Waits for ever: the environment may be frozen meanwhile.
-- @return http's answer; nil, message where there is no going on
function Api:next()
  local lost, empty = 0, 0
  while true do
    local answer, message = perform(self, NEXT,
      { method = "GET", once = true })
    if not answer then
      lost = lost + 1
      if lost == LOST then
        return nil, "could not get the next event: " .. message
      end
      pause(lost - 1)
    elseif answer.status == 204 then
      lost = 0
      pause(empty)
      empty = empty + 1
    elseif answer.status == 200 then
      return answer
    else
      return nil, ("could not get the next event: status %d"):format(
        answer.status)
    end
  end
end

-- ----------------------------------------------------------------- answers

-- libcurl takes dots out of a path, encoded or not.
local function escape(id)
  if id:find("^%.+$") then
    return (id:gsub("%.", "%%2E"))
  end
  return http.escape(id)
end

--- The path of an answer to an event.
-- @param event see luapool.lambda.event
-- @string kind "response" or "error"
function M.path(event, kind)
  return ("/2018-06-01/runtime/invocation/%s/%s"):format(escape(event.id), kind)
end

--- The headers of an answer: an attempt's id goes back where it came.
function M.headers(event, ...)
  local list = { ... }
  if event.invocation_id then
    table.insert(list, "Lambda-Runtime-Invocation-Id: "
      .. text.echo(event.invocation_id))
  end
  return list
end

--- Was it accepted?
-- @return true, or nil, message
function M.accepted(what, answer, message)
  if not answer then
    return nil, ("the %s may be lost: %s"):format(what, message)
  elseif answer.status // 100 ~= 2 then
    return nil, ("the %s was refused: status %d"):format(what, answer.status)
  end
  return true
end

--- Starts an answer; `posted` is to hear what came of it.
--
-- One that is sent into a connection which the peer is just closing is lost,
-- and must not be sent again. So before the first there is a moment in which
-- the end of the connection can arrive, where the peer closes it behind the
-- event. If it does, or an answer is lost, each gets a connection of its own.
function Api:start_post(path, request)
  if self.kept == nil then
    host.poll({}, CLOSING)
  end
  request.method, request.once = "POST", true
  request.fresh = self.kept == false
  return self:start(path, request)
end

--- Notes what came of it.
-- @return as of transfer:result
function Api:posted(transfer)
  local answer, message = transfer:result()
  if self.kept ~= false then
    self.kept = answer ~= nil and answer.reused
  end
  return answer, message
end

local function post(self, what, path, headers, body)
  local transfer = self:start_post(path,
    { headers = headers, body = body, timeout = ANSWER })
  self:wait(transfer)
  return M.accepted(what, self:posted(transfer))
end

--- @return true, or nil, message
function Api:response(event, body, content_type)
  return post(self, "response", M.path(event, "response"),
    M.headers(event, "Content-Type: " .. content_type), body)
end

local function error_headers(failure)
  return "Content-Type: application/json",
    "Lambda-Runtime-Function-Error-Type: " .. failure.type
end

--- @return true, or nil, message
function Api:error(event, failure)
  return post(self, "error", M.path(event, "error"),
    M.headers(event, error_headers(failure)), failure:body())
end

--- @return true, or nil, message
function Api:init_error(failure)
  return post(self, "error", "/2018-06-01/runtime/init/error",
    { error_headers(failure) }, failure:body())
end

return M
