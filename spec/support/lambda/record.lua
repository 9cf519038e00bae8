-- SPDX-License-Identifier: MIT
-- One line of what the Runtime API stand-in recorded: what a request was, and
-- what any response or error of a Lambda runtime has to be. Numbers of cjson's
-- are floats; bodies are read from the stand-in's second file, byte for byte.
local cjson = require "cjson"

local M = {}

local LIMIT = 65536 -- bytes of an error's body

local Record = {}
Record.__index = Record

--- A record.
-- @param fields the decoded line
-- @param bodies the path of the file with the bodies
function M.new(fields, bodies)
  fields.bodies = bodies
  return setmetatable(fields, Record)
end

--- The body of a request.
function Record:text()
  local file <close> = assert(io.open(self.bodies, "rb"))
  file:seek("set", math.tointeger(self.body[1]))
  return file:read(math.tointeger(self.body[2])) or ""
end

--- The body, decoded by another library than the one under test.
function Record:json() return cjson.decode(self:text()) end

-- The value of that name, in whatever case, and how many there are.
local function find(list, name)
  local value, n = nil, 0
  for _, pair in ipairs(list) do
    if pair[1]:lower() == name:lower() then value, n = pair[2], n + 1 end
  end
  return value, n
end

--- A header's value, and how many there are of that name.
function Record:header(name) return find(self.headers, name) end

--- The same among the trailers.
function Record:trailer(name) return find(self.trailers, name) end

local function complain(self, what)
  error(("%s, in %s %s: %s"):format(what, self.method, self.path,
    self:text():sub(1, 500)), 4)
end

-- The keys of an error's body and their types.
local function check_shape(self, body)
  local types = { errorMessage = "string", errorType = "string",
    stackTrace = "table" }
  for key in pairs(body) do
    if not types[key] then complain(self, "unknown field " .. key) end
  end
  for key, kind in pairs(types) do
    if type(body[key]) ~= kind then complain(self, "no " .. kind .. " " .. key)
    end
  end
  for key, frame in pairs(body.stackTrace) do
    if math.type(key) ~= "integer" or type(frame) ~= "string" then
      complain(self, "stackTrace is no list of strings")
    end
  end
end

--- Checks what holds for the JSON of every error.
-- @return the decoded body
function M.check_error(self, text, kind)
  if #text > LIMIT then complain(self, #text .. " bytes of error") end
  if not utf8.len(text) then complain(self, "not UTF-8") end
  if text:find "[\0-\31]" then complain(self, "control characters") end
  local body = cjson.decode(text)
  check_shape(self, body)
  if body.errorType ~= kind then
    complain(self, ("errorType %q is not %q"):format(body.errorType, kind))
  end
  return body
end

--- The decoded body of a request that must be an error, of that type where one
-- is given.
function Record:failure(wanted)
  if self.kind ~= "error" and self.kind ~= "init_error" then
    complain(self, "a " .. self.kind .. " where an error was due")
  end
  local kind, n = self:header "Lambda-Runtime-Function-Error-Type"
  if n ~= 1 then complain(self, n .. " headers with an error type") end
  if wanted and kind ~= wanted then
    complain(self, ("error type %q, not %q"):format(kind, wanted))
  end
  return M.check_error(self, self:text(), kind)
end

--- The body of a request that must be a response.
function Record:result()
  if self.kind ~= "response" then
    complain(self, "an " .. self.kind .. " where a response was due")
  end
  return self:text()
end

return M
