#!/bin/bash
# SPDX-License-Identifier: MIT
# lua_suite.sh [HOST]: Lua 5.4.4's own tests, unchanged, in HOST; without one
# they are only fetched. They are not ours to keep here: PyPI's source archive
# of lupa 2.0 carries them whole, so pip fetches that once (and checks its hash)
# into build/lua-suite.
set -eu
host=$(realpath "${1-.}")
cd "$(dirname "$0")/../.."
suite=build/lua-suite

fetch() {
  local tmp=build/lupa
  rm -rf $tmp && mkdir -p $tmp
  python3 -m venv $tmp/venv
  echo "lupa==2.0 --hash=sha256:ad3fef486be7adddd349fe9a9c393789\
061312cf98ebc533b489be34f484cb79" >$tmp/requirements
  $tmp/venv/bin/pip download -q --disable-pip-version-check --retries 1 \
    --no-deps --no-binary lupa -d $tmp -r $tmp/requirements
  tar -xzf $tmp/lupa-2.0.tar.gz -C $tmp --strip-components=3 \
    lupa-2.0/third-party/lua54/testes
  mv $tmp/testes $suite
  rm -rf $tmp
}

[[ -d $suite ]] || fetch
(($#)) || exit 0
cd $suite

# Its Ctrl-C test starts "script & echo $!" and takes the first line for the
# pid; where the machine is busy the script can be faster. So up to three tries,
# each in a process group of its own, of which nothing stays.
command_line() {
  local status=0
  timeout 60 "$host" -W main.lua &
  wait $! || status=$?
  kill -KILL -- -$! 2>/dev/null || true
  return $status
}

# In user mode the command line is left out, so main.lua runs on its own too.
"$host" -e"_U=true" all.lua
command_line || command_line || command_line
