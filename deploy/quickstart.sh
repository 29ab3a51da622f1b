#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on one machine: installs what is missing, builds, curates real long text, extends the sample model from
# 512 to 2,048 tokens with LoRA+ and full, S2- and SF-Attn, compares perplexities, and generates from a long prompt
# with the full cache and with H2O.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TXT'
Usage: deploy/quickstart.sh [--fast] [--text DIR] [--steps N] [--data-dir DIR]
                            [--stop] [--no-install]

  --fast          tune with SF-Attn only
  --text DIR      use the text files of DIR (at least 1 MB); default: the King
                  James Bible, one document a book, from a Debian package
  --steps N       optimizer steps of each tuning (default: 120)
  --data-dir DIR  where all state goes; replaced when it is from an earlier
                  quickstart (default: out/quickstart)
  --stop          stop the server at the end instead of leaving it running
  --no-install    do not install packages

Example: deploy/quickstart.sh --fast
TXT
}

fast=no
text=
steps=120
data_dir=$SOURCE_DIR/out/quickstart
stop=no
install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=yes; shift ;;
    --text) text=${2:?--text needs a folder}; shift 2 ;;
    --steps) steps=${2:?--steps needs a number}; shift 2 ;;
    --data-dir) data_dir=${2:?--data-dir needs a folder}; shift 2 ;;
    --stop) stop=yes; shift ;;
    --no-install) install=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
[ -z "$text" ] || [ -d "$text" ] || fail "--text $text: no such folder"
[[ $steps =~ ^[1-9][0-9]*$ ]] || fail "--steps $steps: a positive number is needed"

context=2048
eval_document_tokens=4096  # of each held-out document
adapters=(full s2 sf)
[ $fast = no ] || adapters=(sf)

started=$SECONDS
step "Packages"
if [ $install = yes ]; then
  extra=(jq curl)
  [ -n "$text" ] || extra+=(bible-kjv bible-kjv-text)
  install_packages "${BUILD_PACKAGES[@]}" "${extra[@]}"
fi

step "Build"
build release sinklora sinklora-standalone sinklora-curator sinklora-trainer sinklora-worker sinklora-inference
built=$SECONDS
cli=$SOURCE_DIR/build/release/bin/sinklora

# A data directory is only ever removed when this script made it.
marker=$data_dir/.quickstart
if [ -d "$data_dir" ]; then
  [ -f "$marker" ] || fail "--data-dir $data_dir exists and is not from a quickstart"
  if [ -f "$marker.pid" ]; then
    old=$(cat "$marker.pid")
    # The number may belong to another program by now.
    if grep -qa -- "$data_dir/state" "/proc/$old/cmdline" 2>/dev/null; then
      kill "$old"
      tail --pid="$old" -f /dev/null
    fi
  fi
  rm -rf "$data_dir"
fi
mkdir -p "$data_dir/train" "$data_dir/heldout"
touch "$marker"

# Drops what a cut left of a character; iconv says so by its exit status.
whole_characters() { iconv -c -f UTF-8 -t UTF-8 2>/dev/null || [ $? = 1 ]; }

# Documents go to train/ and heldout/ whole: nothing that is measured was trained on.
prepare_bible() {
  bible -f gen1:1-rev22:21 | awk -v dir="$data_dir" '
    { match($1, /^[0-9]?[A-Za-z]+/); book = substr($1, 1, RLENGTH)
      held = book ~ /^(Ruth|2Sm|Est|Mark|Gal|Jonah)$/
      sub(/^[^ ]+ /, "")
      print > (dir "/" (held ? "heldout" : "train") "/" book ".txt") }'
}
prepare_folder() {
  local index=0 file
  while IFS= read -r -d '' file; do
    local part=train
    [ $((index % 10)) -ne 9 ] || part=heldout
    cp "$file" "$data_dir/$part/$index-$(basename "$file")"
    index=$((index + 1))
  done < <(find "$text" -type f -size +0 -print0 | sort -z)
  [ $index -gt 0 ] || fail "--text $text: no files in it"
  if [ -z "$(ls "$data_dir/heldout")" ]; then
    # Too few documents to hold one out: the end of each is held out.
    for file in "$data_dir"/train/*; do
      # By bytes: a document may be one line.
      local keep
      keep=$(($(stat -c %s "$file") * 9 / 10))
      tail -c +$((keep + 1)) "$file" | whole_characters >"$data_dir/heldout/$(basename "$file")"
      head -c $keep "$file" | whole_characters >"$file.head"
      mv "$file.head" "$file"
    done
  fi
}

# Matrix products of bfloat16 where the processor has them: faster, and losses and perplexities are the same to four
# digits. The sample's weights are stored as bfloat16 anyway.
compute=float32
! grep -qw avx512_bf16 /proc/cpuinfo || compute=bfloat16

step "Server"
"$cli" up --data-dir "$data_dir/state" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --weight-type $compute \
  >"$data_dir/server.log" 2>&1 &
server=$!
echo $server >"$marker.pid"
finish() {
  if [ $stop = yes ] || [ "${completed:-no}" = no ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
}
trap finish EXIT
export SINKLORA_SERVER
for _ in $(seq 200); do
  [ ! -f "$data_dir/state/endpoint.json" ] || break
  kill -0 $server 2>/dev/null || { cat "$data_dir/server.log" >&2; fail "the server did not start"; }
  sleep 0.1
done
SINKLORA_SERVER=$(jq -r .grpc "$data_dir/state/endpoint.json")
metrics=$(jq -r .metrics "$data_dir/state/endpoint.json")
echo "serving gRPC on $SINKLORA_SERVER, metrics on $metrics"

main_started=$SECONDS
step "Curate"
if [ -n "$text" ]; then prepare_folder; else prepare_bible; fi
"$cli" model import sample "$SOURCE_DIR/deploy/sample_model/model"
"$cli" dataset import documents "$data_dir/train"
"$cli" dataset curate long-text --source documents --tokenizer-model sample --context $context

# The learning rate suits a model this small; large models want the default.
for attention in "${adapters[@]}"; do
  step "Tune with $attention attention"
  "$cli" train submit --model sample --dataset long-text --output "sample-2k-$attention" \
    --pattern "$attention" --compute $compute --steps "$steps" --micro-batch 2 --learning-rate 2e-3 --warmup-steps 5 \
    --lora-rank 16 --lora-alpha 32 --seed 1 --validate-every "$steps" --keep-activations --watch
done

step "Measure"
perplexity() {  # perplexity CONTEXT TARGET-OPTION...
  local length=$1
  shift
  "$cli" --json eval perplexity --text "$data_dir/heldout" --context "$length" \
    --stride $((length / 2)) --max-document-tokens $eval_document_tokens "$@"
}
jobs=$("$cli" --json train list)
step_seconds() {  # mean of all steps of the job that made adapter $1
  local job
  job=$(jq -r --arg name "$1" '[.jobs[] | select(.resolved.output_name == $name)][0].name' <<<"$jobs")
  "$cli" --json train watch "$job" |
    jq -s '[.[] | .metrics.step_seconds // empty] | add / length'
}
declare -A ppl
measure() {  # measure ROW TARGET-OPTION...
  local row=$1 length
  shift
  for length in 512 1024 2048; do
    ppl[$row,$length]=$(perplexity $length "$@" | jq -r .perplexity)
  done
}
measure base --model sample --serve-context $context
for attention in "${adapters[@]}"; do
  measure "$attention" --model sample --adapter "sample-2k-$attention"
done

table() {
  printf '%-22s %10s %10s %10s %8s %10s\n' 'held-out perplexity' 512 1,024 2,048 'PIR' 'step (s)'
  local row label pir seconds
  for row in base "${adapters[@]}"; do
    case $row in
      base) label='base, RoPE x4' ;;
      full) label='full attention' ;;
      s2) label='S2-Attn (LongLoRA)' ;;
      sf) label='SF-Attn (SinkLoRA)' ;;
    esac
    pir=-
    seconds=-
    if [ "$row" != base ]; then
      seconds=$(printf '%.2f' "$(step_seconds "sample-2k-$row")")
      [ $fast = yes ] || pir=$(awk -v b="${ppl[base,2048]}" -v m="${ppl[$row,2048]}" \
        -v f="${ppl[full,2048]}" 'BEGIN {printf "%.1f %%", 100 * (b - m) / (b - f)}')
    fi
    printf '%-22s %10.2f %10.2f %10.2f %8s %10s\n' "$label" "${ppl[$row,512]}" \
      "${ppl[$row,1024]}" "${ppl[$row,2048]}" "$pir" "$seconds"
  done
}

step "Generate"
# A prompt of 2,000 tokens of held-out text.
prompt=$data_dir/prompt.txt
head -c 100000 <(cat "$data_dir"/heldout/*) | whole_characters |
  "$cli" --json tokenize --model sample --max-tokens 1999 | jq -rj .text >"$prompt"
generate() {  # generate CACHE-OPTION...
  "$cli" --json generate --model sample --adapter sample-2k-sf --prompt-file "$prompt" \
    --max-tokens 40 --temperature 0.8 --seed 1 --ignore-eos "$@"
}
full_cache=$(generate --cache full)
h2o_cache=$(generate --cache h2o --cache-prompt-ratio 0.2)
cache_row() {
  jq -r --arg row "$1" '.finished.usage | [$row, .prompt_tokens, .resident_tokens, .resident_bytes,
    (.generated_tokens | tonumber) - 1, .decode_seconds] | @tsv' <<<"$2" |
    awk -F'\t' '{printf "%-22s %10d %10d %14d %12.1f\n", $1, $2, $3, $4, ($6 > 0 ? $5 / $6 : 0)}'
}

step "Result"
table
echo
printf '%-22s %10s %10s %14s %12s\n' 'cache' 'prompt' 'resident' 'bytes' 'tokens/s'
cache_row 'full' "$full_cache"
cache_row 'H2O, 20 % of prompt' "$h2o_cache"
echo
echo "full cache: $(jq -r .text <<<"$full_cache" | tr '\n' ' ')"
echo "H2O 20 %:   $(jq -r .text <<<"$h2o_cache" | tr '\n' ' ')"
echo
for attention in "${adapters[@]}"; do
  awk -v b="${ppl[base,2048]}" -v m="${ppl[$attention,2048]}" 'BEGIN {exit !(m < b)}' ||
    fail "tuning with $attention attention did not beat the base model at 2,048 tokens"
done
printf 'installed and built in %d s, main job in %d s, tuned and served with %s products\n' \
  $((built - started)) $((SECONDS - main_started)) $compute
completed=yes
if [ $stop = yes ]; then
  echo "server stopped; everything it made is in $data_dir"
else
  echo "live metrics: $metrics"
  echo "try:  $cli --server $SINKLORA_SERVER chat --model sample --adapter sample-2k-sf"
  echo "stop: kill $server"
fi
