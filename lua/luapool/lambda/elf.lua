-- SPDX-License-Identifier: MIT
-- The little that packaging must know of an ELF file: for which machine it is,
-- and which loader it asks for.
local M = {}

-- Numbers of the format, under the names that AWS has for its architectures.
local MACHINES = { [62] = "x86_64", [183] = "arm64" }
local PT_INTERP = 3

-- The loader's path, of the program header that holds it; nil if there is none.
local function interpreter(file, header)
  local offset = ("<I8"):unpack(header, 33)
  local size, count = ("<I2I2"):unpack(header, 55)
  for i = 0, count - 1 do
    file:seek("set", offset + i * size)
    local entry = file:read(size)
    if not entry or #entry < 40 then
      return nil
    elseif ("<I4"):unpack(entry) == PT_INTERP then
      file:seek("set", (("<I8"):unpack(entry, 9)))
      local path = file:read((("<I8"):unpack(entry, 33)))
      return path and path:match("^[^\0]+")
    end
  end
end

--- Reads a file's headers.
-- @treturn table {machine="x86_64", "arm64" or a number, interpreter=path|nil}
-- @treturn[2] nil
-- @treturn[2] string why
function M.read(path)
  local file <close>, message = io.open(path, "rb")
  if not file then
    return nil, message
  end
  local header = file:read(64)
  if not header or #header < 64 or header:sub(1, 6) ~= "\127ELF\2\1" then
    return nil, path .. ": no 64-bit little-endian ELF file"
  end
  local machine = ("<I2"):unpack(header, 19)
  return {
    machine = MACHINES[machine] or machine,
    interpreter = interpreter(file, header),
  }
end

return M
