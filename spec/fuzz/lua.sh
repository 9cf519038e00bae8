#!/bin/bash
# SPDX-License-Identifier: MIT
# lua.sh DIR: the source of Lua 5.4.4, the version that Debian has, in DIR, for a
# Lua with assertions. PyPI's source archive of lupa 2.0 carries it whole, so pip
# fetches that once, and checks its hash.
set -eu
dir=$1
[[ ! -f $dir/lua.h ]] || exit 0
tmp=$dir.tmp
rm -rf "$tmp" && mkdir -p "$tmp"
python3 -m venv "$tmp/venv"
echo "lupa==2.0 --hash=sha256:ad3fef486be7adddd349fe9a9c393789\
061312cf98ebc533b489be34f484cb79" >"$tmp/requirements"
"$tmp/venv/bin/pip" download -q --disable-pip-version-check --no-deps \
  --no-binary lupa -d "$tmp" -r "$tmp/requirements"
tar -xzf "$tmp/lupa-2.0.tar.gz" -C "$tmp" --strip-components=2 \
  lupa-2.0/third-party/lua54
rm -rf "$dir" && mv "$tmp/lua54" "$dir"
rm -rf "$tmp"
