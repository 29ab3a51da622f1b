#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rebuilds the sample base model from public-domain books: tokenizer, random weights, full-parameter training by the
# product's own services, and the measurement on books it never saw.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

usage() {
  cat <<'TXT'
Usage: deploy/sample_model/build.sh --corpus DIR [--out DIR] [--steps N]

  --corpus DIR  the texts of corpus.txt from Project Gutenberg, as UTF-8 files
                whose names end in _NUMBER.txt, e.g. emma_158.txt
  --out DIR     where to work and leave the model (default: out/sample_model)
  --steps N     optimizer steps of 8 x 512 tokens (default: 1600)

Example: deploy/sample_model/build.sh --corpus ~/gutenberg
TXT
}

corpus=
out=$SOURCE_DIR/out/sample_model
steps=1600
while [ $# -gt 0 ]; do
  case $1 in
    --corpus) corpus=${2:?--corpus needs a folder}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --steps) steps=${2:?--steps needs a number}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
[ -n "$corpus" ] || { usage >&2; fail "--corpus is required"; }
[ ! -e "$out" ] || fail "--out $out exists already"
recipe=$SOURCE_DIR/deploy/sample_model
bin=$SOURCE_DIR/build/release/bin

step "Build"
build release sinklora sinklora-standalone sinklora-make-tokenizer sinklora-init-model

step "Corpus"
mkdir -p "$out/train" "$out/heldout"
while read -r part number title; do
  [ "$part" != "#" ] || continue
  file=$(find "$corpus" -name "*_$number.txt" -print -quit)
  [ -n "$file" ] || fail "--corpus $corpus: no file *_$number.txt ($title)"
  # Without the licence text around the book, which is not the book's language.
  sed -e '1,/^\*\*\* \?START OF TH/d' -e '/^\*\*\* \?END OF TH/,$d' "$file" |
    tr -d '\r' >"$out/$part/$number.txt"
  [ -s "$out/$part/$number.txt" ] || fail "$file: no START/END lines of Project Gutenberg"
done <"$recipe/corpus.txt"
wc -c "$out"/train/* "$out"/heldout/*

step "Tokenizer and random weights"
mkdir -p "$out/init"
"$bin/sinklora-make-tokenizer" --out "$out/init" --vocab-size 4096 "$out"/train/*.txt
"$bin/sinklora-init-model" --out "$out/init" --config "$recipe/config.json" --seed 1

step "Server"
"$bin/sinklora" up --data-dir "$out/state" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 >"$out/server.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true' EXIT
for _ in $(seq 200); do
  [ ! -f "$out/state/endpoint.json" ] || break
  sleep 0.1
done
cli=("$bin/sinklora" --data-dir "$out/state")

step "Train"
"${cli[@]}" model import init "$out/init"
"${cli[@]}" dataset import books "$out/train"
"${cli[@]}" dataset curate books-512 --source books --tokenizer-model init --context 512 --validation-fraction 0
"${cli[@]}" train submit --model init --dataset books-512 --output sample --mode full --pattern full \
  --steps "$steps" --micro-batch 8 --learning-rate 3e-3 --schedule cosine --min-learning-rate 3e-5 \
  --warmup-steps 100 --weight-decay 0.05 --seed 1 --keep-activations --checkpoint-every 200 --watch
"${cli[@]}" model export sample --output "$out/model"

step "Measure on books it never saw"
"${cli[@]}" eval perplexity --model sample --text "$out/heldout" --context 512 --stride 256
du -b "$out"/model/*
