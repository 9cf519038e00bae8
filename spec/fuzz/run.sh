#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh DIR SECONDS, or run.sh DIR -n EXECUTIONS: runs the fuzz targets that were
# built in DIR side by side, that long each or that often in all. What they find
# is left in DIR/found; the inputs that reach new code in DIR/corpus, from where
# the next run goes on. run.sh DIR -p prints those, as lines of the lists.
set -u
cd "$(dirname "$0")/../.."
dir=$1 how=$2 amount=${3-$2}
targets=(decode frames json roundtrip)
# Percent of the executions, so that all take about as long.
declare -A share=([decode]=41 [frames]=38 [json]=18 [roundtrip]=3)
export UBSAN_OPTIONS=print_stacktrace=1

# The smallest set of inputs that reaches all that the corpus does.
print_corpus() {
  local name=$1 small=$dir/small/$1 file
  rm -rf "$small" && mkdir -p "$small"
  "$dir/fuzz/$name" -merge=1 -use_counters=0 -max_len=200 \
    "$small" "$dir/corpus/$name" 2>/dev/null
  for file in "$small"/*; do
    printf '%.8s %s\n' "$(basename "$file")" \
      "$(od -An -v -tx1 "$file" | tr -d '\n' | sed 's/^ //')"
  done | sort -k2
}

# Leaks are looked for at the end alone: the targets keep their states, for
# which libFuzzer would look after every single input.
fuzz() {
  local name=$1 corpus=$dir/corpus/$1 limit dict=()
  mkdir -p "$corpus" "$dir/found"
  "$dir/unit/replay_$name" -u "$corpus" || return
  limit=-max_total_time=$amount
  [[ $how != -n ]] || limit=-runs=$((amount * share[$name] / 100))
  [[ ! -f spec/fuzz/$name.dict ]] || dict=(-dict="spec/fuzz/$name.dict")
  nice -n 10 "$dir/fuzz/$name" "${dict[@]}" "$limit" -max_len=4096 \
    -detect_leaks=0 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$dir/found/$name-" "$corpus"
}

if [[ $how == -p ]]; then
  for name in "${targets[@]}"; do
    echo "# $name" && print_corpus "$name"
  done
  exit
fi

declare -A pids
for name in "${targets[@]}"; do
  fuzz "$name" >"$dir/fuzz-$name.log" 2>&1 &
  pids[$name]=$!
done
executions=0 findings=0
for name in "${targets[@]}"; do
  status=0 log=$dir/fuzz-$name.log
  wait "${pids[$name]}" || status=$?
  n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  ((executions += ${n:-0}))
  echo "fuzz $name: ${n:-0} executions"
  if ((status)); then
    ((++findings))
    grep -vE '^#[0-9]+|^NEW_FUNC|^INFO' "$log" | tail -n 60
  fi
done
echo "$executions executions, $findings findings"
((findings == 0))
