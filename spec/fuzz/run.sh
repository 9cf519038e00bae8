#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh DIR SECONDS, or run.sh DIR -n EXECUTIONS: runs the fuzz targets that were
# built in DIR one after the other, that long or that often in all. What they
# find is left in DIR/found; the inputs that reach new code in DIR/corpus, from
# where a next run goes on. run.sh DIR -p prints those, as lines of the lists.
set -u
cd "$(dirname "$0")/../.."
dir=$1 how=$2 amount=${3-$2}
targets=(decode roundtrip frames)
declare -A share=([decode]=50 [roundtrip]=25 [frames]=25)  # percent
executions=0 findings=0
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

if [[ $how == -p ]]; then
  for name in "${targets[@]}"; do
    echo "# $name" && print_corpus "$name"
  done
  exit
fi

mkdir -p "$dir/found"
for name in "${targets[@]}"; do
  corpus=$dir/corpus/$name log=$dir/fuzz-$name.log
  mkdir -p "$corpus"
  "$dir/unit/replay_$name" -u "$corpus" || exit 1
  limit=-max_total_time=$((amount * share[$name] / 100))
  [[ $how != -n ]] || limit=-runs=$((amount * share[$name] / 100))
  dict=()
  [[ ! -f spec/fuzz/$name.dict ]] || dict=(-dict="spec/fuzz/$name.dict")
  # Leaks are looked for at the end alone: the targets keep their states, for
  # which libFuzzer would look after every single input.
  nice -n 10 "$dir/fuzz/$name" "${dict[@]}" "$limit" -max_len=4096 \
    -detect_leaks=0 \
    -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$dir/found/$name-" "$corpus" >"$log" 2>&1
  status=$?
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
