#!/bin/bash
# SPDX-License-Identifier: MIT
# The style of every C and Lua file of the checkout, and cppcheck's findings.
set -eu
cd "$(dirname "$0")/../.."
mapfile -t c < <(find host spec scripts -name '*.[ch]')
mapfile -t lua < <(find lua spec scripts -name '*.lua')
clang-format --dry-run -Werror "${c[@]}"
echo "clang-format: ${#c[@]} files"
luacheck -q "${lua[@]}"
cppcheck -q --std=c11 --enable=warning,performance,portability \
  --error-exitcode=1 -D_GNU_SOURCE -I host host
