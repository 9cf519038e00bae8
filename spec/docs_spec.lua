-- SPDX-License-Identifier: MIT
-- The examples of the documents run as they stand: each ```lua block in a
-- process of its own, and what it prints is the ```output block behind it.
local script = require "spec.support.script"

-- The fenced blocks of a document: {language, line, text}.
local function blocks(path)
  local list, block, number = {}, nil, 0
  for line in io.lines(path) do
    number = number + 1
    local fence = line:match("^```(%w*)")
    if fence and block then
      block = nil
    elseif fence then
      block = {language = fence, line = number, text = ""}
      list[#list + 1] = block
    elseif block then
      block.text = block.text .. line .. "\n"
    end
  end
  return list
end

for _, path in ipairs {"README.md", "docs/guide.md"} do
  describe(path, function()
    local list = blocks(path)
    for i, block in ipairs(list) do
      if block.language == "lua" then
        it("runs its example of line " .. block.line, function()
          local printed = script.output(block.text)
          local following = list[i + 1]
          if following and following.language == "output" then
            assert.are.equal(following.text, printed)
          end
        end)
      end
    end
  end)
end
