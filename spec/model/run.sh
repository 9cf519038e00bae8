#!/bin/bash
# SPDX-License-Identifier: MIT
# The model of the pipe protocol, checked by spin: as it is nothing may go wrong,
# and with a parent that blocks in its writes spin must find the deadlock.
set -u
model=$(realpath "$(dirname "$0")/pipes.pml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

# check NAME ERRORS TEXT [FLAG...]: the search must end with that many errors
# and say TEXT.
check() {
  local name=$1 errors=$2 text=$3 log=$1.log
  shift 3
  if spin -a "$@" "$model" >"$log" 2>&1 &&
    gcc -O0 -w -DSAFETY -DMEMLIM=512 -o pan pan.c >>"$log" 2>&1 &&
    timeout 60 ./pan -m100000 -w20 >>"$log" 2>&1 &&
    grep -q "errors: $errors\$" "$log" && grep -q "$text" "$log"; then
    ((++passed))
  else
    ((++failed))
    echo "FAILED: $name"
    cat "$log"
  fi
}

check non_blocking 0 "unreached in proctype parent"
grep -h "states, stored" non_blocking.log
check blocking 1 "invalid end state" -DBLOCKING
echo "$passed passed, $failed failed"
((failed == 0))
