#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh BUILD CLANG_BUILD [PART...]: what looks at code and program from
# outside: clang-tidy over the sources, hardening-check over host and module,
# valgrind over units and specs, workers included. A closing "N passed, N failed".
set -u
cd "$(dirname "$0")/../.."
build=$1 clang=$2
logs=$build/check
passed=0 failed=0
rm -rf "$logs" && mkdir -p "$logs"

# note NAME STATUS LOG: one more check, and its log where it failed.
note() {
  if (($2 == 0)); then
    ((++passed))
  else
    ((++failed))
    echo "FAILED: $1"
    tail -n 60 "$3"
  fi
}

tidy() {
  local file log
  for file in host/*.c; do
    log=$logs/tidy-$(basename "$file").log
    nice clang-tidy -p "$clang" --quiet "$file" >"$log" 2>&1
    note "clang-tidy $file" $? "$log"
  done
}

# Debian's crt files and liblua do not mark themselves as fit for control flow
# protection, so no program of theirs is, whatever we are compiled with. What
# httpd copies has no size that a compiler could know, so nothing of its is
# fortified. (bootstrap, which is not linked to any libc, is left out.)
hardening() {
  local file except
  for file in luapool lambda/luapool lib/luapool/{host,archive,scratch,httpd}.so
  do
    except=(--nocfprotection)
    [[ $file != */httpd.so ]] || except+=(--nofortify)
    hardening-check "${except[@]}" "$build/$file" >"$logs/hardening.log" 2>&1
    note "hardening-check $file" $? "$logs/hardening.log"
  done
}

# grind NAME SECONDS COMMAND...: no error in any process, and no descriptor left
# in the first. A worker leaves by _exit with its state alive: what no pointer
# at all leads to counts as lost, that alone.
grind() {
  local name=$1 limit=$2 log=$logs/valgrind-$1 status first
  shift 2
  mkdir -p "$log"
  timeout -k 5 "$limit" valgrind -q --trace-children=yes --track-fds=yes \
    --trace-children-skip='/bin/*,/usr/bin/*' --error-exitcode=99 \
    --leak-check=full --show-leak-kinds=definite \
    --errors-for-leak-kinds=definite --log-file="$log/%p" \
    "$@" >"$log/output" 2>&1 </dev/null
  status=$?
  first=$(find "$log" -name '[0-9]*' | sort -V | head -n 1)
  {
    grep -lE '== (Invalid|Conditional|Use of|Syscall|.*definitely lost)' \
      "$log"/[0-9]* | xargs -r tail -n +1
    grep -A1 'Open file descriptor\|Open .*socket' "$first" |
      grep -B1 -v 'inherited\|Open\|--'
    tail -n 30 "$log/output"
  } >"$log/summary"
  if grep -qE '== (Invalid|Conditional|Use of|Syscall)|definitely lost' \
    "$log"/[0-9]*; then
    status=99
  fi
  note "valgrind $name" $status "$log/summary"
}

# The other units shower themselves with signals, or kill, too fast for it.
valgrind_units() {
  local unit
  for unit in buffer replay_decode replay_frames replay_roundtrip; do
    grind $unit 300 "$build/unit/$unit"
  done
}

valgrind_specs() {
  local spec
  for spec in codec map pool error future imap options; do
    # But for what must be quick.
    grind ${spec}_spec 600 "$build/luapool" /usr/bin/busted -o TAP \
      --filter-out="in time" "spec/${spec}_spec.lua"
  done
}

parts=(tidy hardening valgrind_units valgrind_specs)
(($# < 3)) || parts=("${@:3}")
for part in "${parts[@]}"; do
  $part
done
echo "$passed passed, $failed failed"
((failed == 0))
