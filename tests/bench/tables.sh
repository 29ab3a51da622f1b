#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every benchmark on an idle machine, one after the other, and writes the tables as Markdown.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tables.sh [--build DIR] [--out DIR] [--python PYTHON] [--llama-bench BINARY] [--rounds N] [--prefix COMMAND]

  --build DIR           where the programs are (default: build/release/tests)
  --out DIR             where JSON and tables.md go (default: out/bench)
  --python PYTHON       one with torch, numpy and gguf: measures PyTorch, and makes the GGUF files for llama.cpp
  --llama-bench BINARY  measures llama.cpp, with --python
  --rounds N            turns of ours and a peer's (default: 3)
  --prefix COMMAND      before every measured command, e.g. 'chrt -f 50', which keeps other processes away

Some 30 minutes, and 10 GB in the --out folder for llama.cpp's models. Without a peer its tables are left out. Of ours and
a peer's every turn is printed. Needs jq.

example: tables.sh --python venv/bin/python --prefix 'chrt -f 50'
TEXT
}

build=build/release/tests
out=out/bench
python=
llama_bench=
prefix=
rounds=3
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=${2:?--build needs a folder}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --python) python=${2:?--python needs a command}; shift 2 ;;
    --llama-bench) llama_bench=${2:?--llama-bench needs a path}; shift 2 ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift 2 ;;
    --prefix) prefix=${2:?--prefix needs a command}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; echo "tables.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "tables.sh: --rounds is $rounds, must be a number >= 1" >&2; exit 2; }
[ -z "$llama_bench" ] || [ -n "$python" ] || { echo "tables.sh: --llama-bench needs --python, to make its models" >&2; exit 2; }
command -v jq >/dev/null || { echo "tables.sh: needs jq" >&2; exit 1; }
for program in bench_kernels bench_step; do
  [ -x "$build/$program" ] || { echo "tables.sh: $build/$program is not there; build it, or say --build" >&2; exit 1; }
done
peers=$(dirname "${BASH_SOURCE[0]}")/peers
compare=$(dirname "${BASH_SOURCE[0]}")/compare.sh
mkdir -p "$out"
tables=$out/tables.md
: >"$tables"
say() { echo "$@" | tee -a "$tables"; }
progress() { printf '[%5d s] %s\n' "$SECONDS" "$*" >&2; }

machine() {
  say "$(date -u +%F), $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores, load average $(cut -d' ' -f1-3 /proc/loadavg)"
  say
}

# Every op with 1 and with 2 threads.
ops() {
  local threads
  for threads in 1 2; do
    progress "bench_kernels, $threads thread(s)"
    $prefix "$build/bench_kernels" --threads=$threads --benchmark_min_time=0.2 --benchmark_out_format=json \
      --benchmark_out="$out/ops$threads.json" >"$out/ops$threads.log" 2>&1
  done
  say "Limits with 2 threads:" "$(jq -r '.context | to_entries | map(select(.key | startswith("limit_")))
    | map("\(.key[6:]) \(.value)") | join("; ")' "$out/ops2.json")"
  say
  say '| op | ms, 1 thread | ms, 2 threads | ratio | rate, 2 threads | limit | share | share by CPU time |'
  say '|---|---|---|---|---|---|---|---|'
  jq -rn --slurpfile one "$out/ops1.json" --slurpfile two "$out/ops2.json" '
    def short: if . >= 100 then round else . * 100 | round / 100 end;
    ($one[0].benchmarks | map({(.name): .}) | add) as $single
    | $two[0].benchmarks[] | select(.error_occurred != true) | $single[.name] as $s
    | "| \(.name | sub("/manual_time"; "")) | \($s.real_time | short) | \(.real_time | short)"
      + " | \($s.real_time / .real_time | short) | \(.rate / 1e9 | short) G/s | \(.label) | \(.share | short)"
      + " | \(.cpu_share | short) |"' | tee -a "$tables"
  say
  attention_ratios
}

# How much faster sparse patterns are than full attention, from the same runs.
attention_ratios() {
  say '| forward + backward, 32 heads of 128 | full, ms | S2, ms | SF, ms | SF against full |'
  say '|---|---|---|---|---|'
  jq -r '
    (.benchmarks | map({(.name | sub("/manual_time"; "")): .real_time}) | add) as $ms
    | def both($pattern; $shape): $ms["attention_forward/\($pattern)/\($shape)"] + $ms["attention_backward/\($pattern)/\($shape)"];
      ("N4096", "N8192") as $n | ("f32", "bf16") as $dtype | "\($n)/kv32/d128/\($dtype)" as $shape
    | "| \($n[1:]) tokens, \($dtype) | \(both("full"; $shape) | round) | \(both("s2"; $shape) | round)"
      + " | \(both("sf"; $shape) | round) | \(both("full"; $shape) / both("sf"; $shape) * 100 | round / 100) |"' \
    "$out/ops2.json" | tee -a "$tables"
  say
}

# step NAME ARGUMENTS...: one report of bench_step.
step() {
  local name=$1
  shift
  progress "bench_step $*"
  $prefix "$build/bench_step" "$@" --json >"$out/step_$name.json"
}
value() { jq -r --arg key "$2" '.[$key] // "-" | if type == "number" then (if . >= 100 then round else . * 1000 | round / 1000 end) else . end' "$out/step_$1.json"; }

training_steps() {
  say '| LoRA+ step, 4096 tokens, bf16, activations kept | tokens/s | share of bf16_dot | share by CPU time | resident MB | of the plan |'
  say '|---|---|---|---|---|---|'
  local wide=(--dim 2048 --layers 2 --heads 16 --kv-heads 16 --intermediate 5632)
  local pattern
  for pattern in full s2 sf wide_sf; do
    local shape=()
    [ $pattern != wide_sf ] || shape=("${wide[@]}")
    step "train_$pattern" train --pattern "${pattern#wide_}" --keep-activations "${shape[@]}"
    say "| $([ $pattern = wide_sf ] && echo 'dim 2048, 2 layers' || echo 'dim 512, 8 layers'), ${pattern#wide_} |" \
      "$(value train_$pattern tokens_per_second) | $(value train_$pattern share_of_limit) |" \
      "$(value train_$pattern cpu_share_of_limit) |" \
      "$(($(value train_$pattern peak_resident_bytes) / 1000000)) | $(value train_$pattern peak_of_plan) |"
  done
  say
}

decode_steps() {
  local shape=(--dim 2048 --layers 6 --heads 32 --kv-heads 4 --intermediate 5632 --vocab 32000)
  say '| decode, 1 stream, 6 layers of dim 2048, 4 kv heads, vocabulary 32,000 | tokens/s | share of read |'
  say '|---|---|---|'
  local dtype
  for dtype in f32 bf16 int8 int4; do
    step "decode_$dtype" decode --dtype $dtype "${shape[@]}"
    say "| $dtype | $(value decode_$dtype full.tokens_per_second) | $(value decode_$dtype full.share_of_read_limit) |"
  done
  say
  step h2o decode --cache h2o,full,streaming --prompt 16384 --context 20000 --batch 8 --budget-ratio 0.2 --dim 256 \
    --layers 1 --heads 2 --kv-heads 2 --intermediate 64 --vocab 500
  say '| decode at batch 8, 16k tokens, KV 150 x the weights | tokens/s | tokens/CPU s | share of read |'
  say '|---|---|---|---|'
  local cache
  for cache in full h2o streaming; do
    say "| $cache | $(value h2o $cache.tokens_per_second) | $(value h2o $cache.tokens_per_cpu_second) |" \
      "$(value h2o $cache.share_of_read_limit) |"
  done
  say "| h2o over full, h2o over streaming | $(value h2o h2o_over_full), $(value h2o h2o_over_streaming) | | |"
  say
}

# turns LABEL OURS PEERS [faster]: both in turn, a row. The ratio is ours by the peer's, with `faster` the other way round.
turns() {
  progress "$1"
  local log=$out/turns.log
  if ! "$compare" -n "$rounds" "$2" "$3" >"$log" 2>&1; then
    say "| $1 | failed: $(tail -n 1 "$log" | cut -c1-100) | | |"
    return
  fi
  say "| $1 | $(awk '$1 ~ /^[0-9]+$/ {printf "%s%.4g", sep, $2; sep = ", "}' "$log") |" \
    "$(awk '$1 ~ /^[0-9]+$/ {printf "%s%.4g", sep, $3; sep = ", "}' "$log") |" \
    "$(awk -v faster="${4:-}" '/^median/ {printf "%.2f", faster == "" ? $NF : 1 / $NF}' "$log") |"
}

pytorch() {
  local torch="$prefix $python"
  # It keeps pages, which PyTorch profits from.
  local jemalloc
  jemalloc=$(ldconfig -p | awk '/libjemalloc.so.2/ && !found++ {print $NF}')
  [ -z "$jemalloc" ] ||
    torch="env LD_PRELOAD=$jemalloc MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always $torch"
  say "PyTorch $($python -c 'import torch; print(torch.__version__)'), 2 threads, jemalloc: ${jemalloc:-no}; in turn, ratio: median."
  say
  say '| forward + backward, 4096 tokens, 32 heads of 128, seconds | ours | PyTorch | ratio |'
  say '|---|---|---|---|'
  local dtype
  for dtype in f32 bf16; do
    turns "full attention, $dtype, against SDPA" "$(ours_attention full $dtype)" \
      "$torch $peers/torch_attention.py --threads 2 --dtype $dtype --tokens 4096 --value forward_backward_seconds" faster
    turns "SF, $dtype, against roll-and-group" "$(ours_attention sf $dtype)" \
      "$torch $peers/torch_attention.py --threads 2 --attention roll_and_group --dtype $dtype --tokens 4096 --value forward_backward_seconds" \
      faster
    turns "its extra memory, $dtype, MB" "$(ours_attention sf $dtype '[.benchmarks[].extra_MiB] | max * 1.048576')" \
      "$torch $peers/torch_attention.py --threads 2 --attention roll_and_group --dtype $dtype --tokens 4096 \
       --repetitions 1 --value extra_bytes | awk '{print \$1 / 1e6}'"
  done
  say
  say '| LoRA step, dim 512, 8 layers, 4096 tokens, bf16, activations kept, tokens/s | ours | PyTorch | ratio |'
  say '|---|---|---|---|'
  local ours="$prefix $build/bench_step train --freeze-embedding-and-norms --keep-activations --value tokens_per_second"
  local theirs="$torch $peers/torch_step.py --threads 2 --value tokens_per_second"
  turns 'full, against full' "$ours --pattern full" "$theirs"
  turns 'SF, against roll-and-group' "$ours --pattern sf" "$theirs --attention roll_and_group"
  turns 'SF, against full' "$ours --pattern sf" "$theirs"
  turns 'SF, against roll-and-group: resident bytes' "${ours/tokens_per_second/peak_resident_bytes} --pattern sf" \
    "${theirs/tokens_per_second/peak_resident_bytes} --attention roll_and_group"
  say
}

# The seconds of forward and backward together, or what $3 makes of the report.
ours_attention() {
  echo "$prefix $build/bench_kernels --threads=2 --benchmark_min_time=0.2 --benchmark_format=json" \
    "--benchmark_filter='attention_(forward|backward)/$1/N4096/kv32/d128/$2/' 2>/dev/null" \
    "| jq '${3:-[.benchmarks[].real_time] | add / 1000}'"
}

llama() {
  say "llama.cpp, 2 threads, 1.1 B parameters, one GGUF (4 bits: int4 of the bf16 file here, Q4_0 there; 8 bits: int8, Q8_0); in turn, ratio: median."
  say
  say '| tokens/s | ours | llama.cpp | ratio |'
  say '|---|---|---|---|'
  local type dtype what
  for type in bf16 f32 q8_0 q4_0; do
    progress "model of $type"
    [ -s "$out/$type.gguf" ] || $python "$peers/make_gguf.py" "$out/$type.gguf" --type $type >/dev/null
  done
  for what in prefill decode; do
    for type in bf16 f32 q8_0 q4_0; do
      case $type in q8_0) dtype=int8 ;; q4_0) dtype=int4 ;; *) dtype=$type ;; esac
      local file=$out/bf16.gguf key=tokens_per_second
      [ $type != f32 ] || file=$out/f32.gguf
      [ $what = prefill ] || key=full.tokens_per_second
      turns "$what, $dtype" "$prefix $build/bench_step $what --gguf $file --dtype $dtype --value $key" \
        "$prefix $python $peers/llama_bench.py $out/$type.gguf --what $what --llama-bench $llama_bench --value tokens_per_second"
    done
  done
  say
}

machine
ops
training_steps
decode_steps
[ -z "$python" ] || pytorch
[ -z "$llama_bench" ] || llama
progress "tables: $tables"
