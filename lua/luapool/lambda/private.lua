-- SPDX-License-Identifier: MIT
-- Names that are never packaged, wherever they are: secrets, version control,
-- what editors and file managers leave.
local NAMES = {
  [".env"] = "it holds secrets",
  [".envrc"] = "it holds secrets",
  [".git"] = "it is version control",
  [".gitignore"] = "it is version control",
  [".gitattributes"] = "it is version control",
  [".gitmodules"] = "it is version control",
  [".hg"] = "it is version control",
  [".hgignore"] = "it is version control",
  [".svn"] = "it is version control",
  [".bzr"] = "it is version control",
  ["_darcs"] = "it is version control",
  ["CVS"] = "it is version control",
  [".DS_Store"] = "a file manager made it",
  ["Thumbs.db"] = "a file manager made it",
  [".idea"] = "an editor made it",
  [".vscode"] = "an editor made it",
}

local PATTERNS = {
  ["^%.env%."] = "it holds secrets",
  ["~$"] = "an editor made it",
  ["^%.#"] = "an editor made it",
  ["^#.*#$"] = "an editor made it",
  ["^%..+%.sw[a-p]$"] = "an editor made it",
}

--- Why a file or directory of that name is left out, nil where it is not.
-- @string base the last part of a path
return function(base)
  if NAMES[base] then
    return NAMES[base]
  end
  for pattern, why in pairs(PATTERNS) do
    if base:find(pattern) then
      return why
    end
  end
end
