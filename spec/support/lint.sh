#!/bin/bash
# SPDX-License-Identifier: MIT
# The style of every C and Lua file of the checkout.
set -eu
cd "$(dirname "$0")/../.."
mapfile -t c < <(find host spec scripts -name '*.[ch]')
mapfile -t lua < <(find lua spec scripts -name '*.lua')
clang-format --dry-run -Werror "${c[@]}"
echo "clang-format: ${#c[@]} files"
luacheck -q "${lua[@]}"
