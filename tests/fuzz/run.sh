#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets, seeds their corpora from real files, runs them one after the other and prints a table. What
# is found is in build/fuzz/artifacts; corpora stay in build/fuzz/corpus and grow with every run.
source "$(dirname "${BASH_SOURCE[0]}")/../../deploy/common.sh"

usage() {
  cat <<'TXT'
Usage: tests/fuzz/run.sh [--seconds N | --runs N] [--no-install] [--no-build] [target...]

  --seconds N    time for each target (default: 60)
  --runs N       executions for each target instead
  --no-install   do not install packages
  --no-build     use what was built before
  target         of those in tests/fuzz/CMakeLists.txt (default: all)

Exits with 1 when a target crashed, hung or took too much memory.

Example: tests/fuzz/run.sh --runs 10000000 safetensors config_json
TXT
}

limit=-max_total_time=60
install=yes
rebuild=yes
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) limit=-max_total_time=${2:?--seconds needs a number}; shift 2 ;;
    --runs) limit=-runs=${2:?--runs needs a number}; shift 2 ;;
    --no-install) install=no; shift ;;
    --no-build) rebuild=no; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; fail "unknown option $1" ;;
    *) targets+=("$1"); shift ;;
  esac
done

cd "$SOURCE_DIR"
BUILD=build/fuzz
shared=${SINKLORA_SHARED_DIR:-$SOURCE_DIR/../shared}
if [ "$install" = yes ]; then
  step "Packages"
  install_packages "${FUZZ_PACKAGES[@]}"
fi
if [ "$rebuild" = yes ]; then
  step "Build (fuzz)"
  build fuzz
fi
if [ ${#targets[@]} -eq 0 ]; then
  for file in "$BUILD"/fuzz/*.target; do
    targets+=("$(basename "$file" .target)")
  done
fi
for target in "${targets[@]}"; do
  [ -f "$BUILD/fuzz/$target.target" ] || fail "unknown target $target"
done

# seed TARGET MAX_LEN: the made seeds, the regression inputs and the real files, those of at most MAX_LEN bytes.
seed() {
  local target=$1 max_len=$2 corpus=$BUILD/corpus/$1 glob file
  mkdir -p "$corpus"
  {
    find "$BUILD/seeds/$target" "tests/fuzz/regressions/$target" -type f 2>/dev/null || true
    tail -n +2 "$BUILD/fuzz/$target.target" | while IFS= read -r glob; do
      [ -n "$glob" ] || continue
      case $glob in shared:*) glob=$shared/${glob#shared:} ;; esac
      compgen -G "$glob" || true
    done
  } | while IFS= read -r file; do
    [ "$(stat -c %s "$file")" -le "$max_len" ] || continue
    cp "$file" "$corpus/seed-$(sha1sum <"$file" | cut -c1-16)"
  done
}

# dictionary TARGET: the path of the joined dictionary.
dictionary() {
  local out=$BUILD/fuzz/$1.dict part
  : >"$out"
  for part in json "$1"; do
    [ ! -f "tests/fuzz/dictionaries/$part.dict" ] || cat "tests/fuzz/dictionaries/$part.dict" >>"$out"
  done
  echo "$out"
}

step "Seeds"
rm -rf "$BUILD/seeds"
"$BUILD/bin/fuzz_make_seeds" deploy/sample_model/model "$BUILD/seeds"
mkdir -p "$BUILD/logs" "$BUILD/artifacts"
crashed=()
rows=()
for target in "${targets[@]}"; do
  max_len=$(head -1 "$BUILD/fuzz/$target.target")
  seed "$target" "$max_len"
  step "$target ($(find "$BUILD/corpus/$target" -type f | wc -l) inputs to start from)"
  log=$BUILD/logs/$target.log
  started=$SECONDS
  status=0
  "$BUILD/bin/fuzz_$target" "$limit" -max_len="$max_len" -dict="$(dictionary "$target")" \
    -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$BUILD/artifacts/$target-" "$BUILD/corpus/$target" >"$log" 2>&1 || status=$?
  found=none
  if [ $status != 0 ]; then
    crashed+=("$target")
    found=$(grep -o "$BUILD/artifacts/[^ ]*" "$log" | tail -1)
    grep -E 'ERROR|SUMMARY|Test unit written' "$log" | head -5
  fi
  final_stat() { awk -v key="stat::$1:" '$1 == key {print $2}' "$log"; }
  coverage=$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -1 | tr -d 'a-z:')
  # shellcheck disable=SC2086  # two numbers
  rows+=("$(printf '%-18s %12s %8s %8s %8s %8s %6s s  %s' "$target" "$(final_stat number_of_executed_units)" \
    "$(final_stat average_exec_per_sec)" $coverage "$(find "$BUILD/corpus/$target" -type f | wc -l)" \
    $((SECONDS - started)) "$found")")
done

step "Summary"
printf '%-18s %12s %8s %8s %8s %8s %8s  %s\n' target executions exec/s edges features corpus time found
printf '%s\n' "${rows[@]}"
[ ${#crashed[@]} -eq 0 ]
