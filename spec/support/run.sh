#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh core|all|faults: runs the built tests part by part: one line for each,
# what a failing one printed, and a closing "N passed, N failed" over everything.
# Names after that (`run.sh all asan_specs`) run those parts alone.
set -u
cd "$(dirname "$0")/../.."
unset LUA_PATH LUA_CPATH LUA_INIT LUA_PATH_5_4 LUA_CPATH_5_4 LUA_INIT_5_4
passed=0 failed=0 skipped=0
ulimit -c 0  # tasks crash on purpose
logs=build/test
rm -rf $logs && mkdir -p $logs

# Reports go to files, since a worker's stderr may be a test's; what a test
# does on purpose (signals, sizes that cannot be had) is no report.
asan=$PWD/$logs/report
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$asan
export ASAN_OPTIONS=log_path=$asan:allocator_may_return_null=1
ASAN_OPTIONS+=:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_abort=0

# sum NAME PASSED FAILED SKIPPED: the line of a part, and its log if need be.
sum() {
  printf '%-18s %5d passed, %d failed, %d skipped  (%d s)\n' "$1" "$2" "$3" \
    "$4" $((SECONDS - started))
  ((passed += $2, failed += $3, skipped += $4))
  if (($3)); then
    cat $logs/"$1".log
  fi
}

# limited LOG SECONDS COMMAND...: its output appended, killed when too slow.
limited() {
  local log=$1 limit=$2 status
  shift 2
  timeout -k 5 "$limit" "$@" >>"$log" 2>&1 </dev/null
  status=$?
  ((status != 124 && status != 137)) || echo "over $limit s: $*" >>"$log"
  return $status
}

# checks NAME SECONDS COMMAND LINE...: each a test that passes with status 0.
checks() {
  local name=$1 limit=$2 good=0 bad=0 line words
  shift 2
  started=$SECONDS
  for line; do
    read -ra words <<<"$line"
    if limited $logs/"$name".log "$limit" "${words[@]}"; then
      ((++good))
    else
      ((++bad))
      echo "FAILED: $line" >>$logs/"$name".log
    fi
  done
  ((good + bad)) || { bad=1 && echo "no test found" >>$logs/"$name".log; }
  reports >>$logs/"$name".log || ((++bad))
  sum "$name" $good $bad 0
}

# count LOG WORD: the number in a line of busted's summary, "[ WORD ] 12 ...".
count() {
  sed -nE "s/^\[ +$2 +\] ([0-9]+) [a-z]+[.,].*/\1/p" "$1" | grep . || echo 0
}

# spec LOG SECONDS COMMAND...: one file; status and reports are left beside LOG.
spec() {
  local log=$1 status=0
  export UBSAN_OPTIONS+=:log_path=$PWD/$log.report
  export ASAN_OPTIONS+=:log_path=$PWD/$log.report
  limited "$@" || status=$?
  echo $status >"$log.status"
}

# tally FILE LOG: adds a file's own counts up. An end without them, or a status
# that does not fit, is a failure more, and so is a report.
tally() {
  local file=$1 log=$2 status fails
  status=$(cat "$log.status")
  ((good += $(count "$log" PASSED), pending += $(count "$log" SKIPPED)))
  ((fails = $(count "$log" FAILED) + $(count "$log" ERROR)))
  if ((fails == 0 && status)); then
    fails=1
    grep RUN "$log" | tail -n 1
    echo "FAILED: status $status of $file"
  fi
  ! cat "$log".report.* >>"$log" 2>/dev/null || ((++fails))
  ((fails == 0)) || grep -vE '^\[ +(RUN|OK) ' "$log"
  ((bad += fails))
}

# specs NAME SECONDS DIR COMMAND...: COMMAND, which ends in busted and its
# options, for each spec file of DIR anew; `together` of them at a time.
together=1
specs() {
  local name=$1 limit=$2 dir=$3 good=0 bad=0 pending=0 file
  shift 3
  started=$SECONDS
  for file in "$dir"/*_spec.lua; do
    while (($(jobs -rp | wc -l) >= together)); do wait -n; done
    spec "$logs/$name.$(basename "$file" .lua).log" "$limit" "$@" -o gtest \
      "$file" &
  done
  wait
  for file in "$dir"/*_spec.lua; do
    tally "$file" "$logs/$name.$(basename "$file" .lua).log"
  done >$logs/"$name".log
  sum "$name" $good $bad $pending
  # By name, so that nobody takes them for passed.
  sed -nE 's/^\[ SKIPPED +\] (.* @ .*) \([0-9.]+ ms\)$/  skipped: \1/p' \
    $logs/"$name".*_spec.log
}

# What the sanitizers found in a part's programs so far.
reports() {
  ! cat $logs/report.* 2>/dev/null || ! rm -f $logs/report.*
}

skip() {
  started=$SECONDS
  sum "$1" 0 0 1
  echo "$1 skipped: $2"
}

busted=/usr/bin/busted
units() { checks units 60 build/unit/*; }
model() { checks model 60 spec/model/run.sh; }
# Many of them wait for a while.
host_specs() { together=2 specs host_specs 60 spec build/luapool $busted; }
stock_specs() { together=2 specs stock_specs 60 spec lua5.4 $busted; }
fault_specs() {
  specs fault_specs 120 spec/faults build/luapool $busted --exclude-tags=slow
}
# The host as a Lambda runtime; stock Lua is none. These wait more than they
# work.
lambda_specs() {
  together=3 specs lambda_specs 60 spec/lambda build/luapool $busted \
    --exclude-tags=slow
}
slow_lambda() {
  specs slow_lambda 300 spec/lambda build/luapool $busted --tags=slow
}
all_faults() { specs all_faults 900 spec/faults build/luapool $busted; }
lua_suite() {
  local suite=spec/support/lua_suite.sh
  if ! limited $logs/lua_suite.log 120 $suite; then
    skip lua_suite "$(tail -n 1 $logs/lua_suite.log)"
    return
  fi
  checks lua_suite 300 "$suite build/luapool"
}
asan_units() { checks asan_units 240 build/asan/unit/*; }
asan_specs() { specs asan_specs 180 spec build/asan/luapool $busted; }
sandbox_specs() {
  local box=spec/support/sandbox.sh python="python3 spec/support/canary.py"
  if ! limited $logs/sandbox.log 10 $box true; then
    skip sandbox_specs "$(tail -n 1 $logs/sandbox.log)"
    return
  fi
  # 2: no /dev/shm; 38: no semaphores at all, Lambda's answer.
  checks sandbox_canary 30 "$box env -u LD_PRELOAD $python 2" "$box $python 38"
  together=2 specs sandbox_specs 60 spec $box build/luapool $busted
  together=3 specs sandbox_lambda 60 spec/lambda $box build/luapool $busted \
    --exclude-tags=slow
}
asan_lambda() {
  together=3 specs asan_lambda 180 spec/lambda build/asan/luapool $busted \
    --exclude-tags=slow
}

parts=(units model host_specs stock_specs)
case ${1-core} in
  all)
    parts+=(lambda_specs fault_specs lua_suite sandbox_specs)
    parts+=(asan_units asan_specs asan_lambda)
    ;;
  faults) parts=(all_faults slow_lambda) ;;
esac
(($# < 2)) || parts=("${@:2}")
for part in "${parts[@]}"; do
  $part
done
((!skipped)) || echo "$skipped skipped, named above"
echo "$passed passed, $failed failed"
((failed == 0))
