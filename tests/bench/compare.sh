#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs two commands in turn, A B A B ..., and compares the number that each prints last.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: compare.sh [-n ROUNDS] COMMAND_A COMMAND_B

Each command is one shell word, run by bash; the last number on its last line of output counts. Prints A, B and A / B
of every round, then the median of the ratios: on a machine that other work shares, that is what to trust.

example: compare.sh -n 5 'build/release/tests/bench_step train --pattern sf --value tokens_per_second' \
                         'build/release/tests/bench_step train --pattern full --value tokens_per_second'
TEXT
}

rounds=5
while getopts "n:h" flag; do
  case "$flag" in
    n) rounds=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
if [[ $# -ne 2 || ! $rounds =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi

# Prints the number, or stops everything with what the command said.
measure() {
  local output number
  if ! output=$(bash -c "$1"); then
    echo "compare.sh: failed: $1" >&2
    return 1
  fi
  number=$(tail -n 1 <<<"$output" | grep -oE '[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?' | tail -n 1) || true
  if [[ -z $number ]]; then
    echo "compare.sh: no number in the last line of: $1" >&2
    return 1
  fi
  echo "$number"
}

ratios=()
printf '%-6s %14s %14s %10s\n' round A B 'A / B'
for ((round = 1; round <= rounds; ++round)); do
  a=$(measure "$1")
  b=$(measure "$2")
  ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { if (b == 0) exit 1; printf "%.4f", a / b }') || {
    echo "compare.sh: B is 0 in round $round" >&2
    exit 1
  }
  printf '%-6s %14.6g %14.6g %10.3f\n' "$round" "$a" "$b" "$ratio"
  ratios+=("$ratio")
done
median=$(printf '%s\n' "${ratios[@]}" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }')
echo "median A / B $median"
