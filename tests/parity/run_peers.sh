#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks what we write and compute against the libraries that others use it with. Needs Python's registry, so it is not
# part of the default tests. One function per area: run_<section>; to add one, write it and name it in SECTIONS.
source "$(dirname "${BASH_SOURCE[0]}")/../../deploy/common.sh"

# exports: transformers and PEFT load our exports and give our logits.
# safetensors: the library reads our files, and refuses what we refuse.
# gguf: gguf-py reads our GGUF files; llama.cpp, where it is installed, runs them to our logits.
SECTIONS=(exports safetensors gguf)

usage() {
  cat <<TXT
Usage: tests/parity/run_peers.sh [--venv DIR] [--no-install] [--preset NAME] [--only SECTION]...

  --venv DIR      Python environment to use, made when absent
                  (default: build/peers)
  --no-install    the environment has everything; do not call pip
  --preset NAME   CMake preset of our tools (default: release)
  --only SECTION  of: ${SECTIONS[*]}; may be repeated (default: all)

Example: tests/parity/run_peers.sh --only exports
TXT
}

PARITY_DIR=$SOURCE_DIR/tests/parity
venv=$SOURCE_DIR/build/peers
preset=release
install=yes
only=()
while [ $# -gt 0 ]; do
  case $1 in
    --venv) venv=${2:?--venv needs a folder}; shift 2 ;;
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --only) only+=("${2:?--only needs a section}"); shift 2 ;;
    --no-install) install=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
[ ${#only[@]} -gt 0 ] || only=("${SECTIONS[@]}")
for section in "${only[@]}"; do
  [[ " ${SECTIONS[*]} " == *" $section "* ]] || fail "unknown section $section, known are: ${SECTIONS[*]}"
done

# Where the sections leave their files; removed at the end.
WORK_DIR=$(mktemp -d)
trap 'rm -rf "$WORK_DIR"' EXIT
PYTHON=$venv/bin/python3
# The checks use local files alone, and the same number of threads everywhere.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# Our tests' binaries, e.g. "$(tool parity_tool)".
tool() { printf '%s/build/%s/tests/%s' "$SOURCE_DIR" "$preset" "$1"; }

run_exports() {
  build "$preset" parity_tool
  "$PYTHON" "$PARITY_DIR/check_exports.py" --tool "$(tool parity_tool)" --work "$WORK_DIR/exports"
}

run_safetensors() {
  build "$preset" safetensors_tool
  "$PYTHON" "$PARITY_DIR/check_safetensors.py" --tool "$(tool safetensors_tool)" --work "$WORK_DIR/safetensors"
}

# llama.cpp itself is run when the environment has the package llama-cpp-python, which takes long to build, and its
# converter when LLAMA_CPP_DIR names a checkout.
run_gguf() {
  build "$preset" gguf_tool
  "$PYTHON" "$PARITY_DIR/check_gguf.py" --tool "$(tool gguf_tool)" --work "$WORK_DIR/gguf" \
    ${LLAMA_CPP_DIR:+--llama-cpp "$LLAMA_CPP_DIR"} --shared "${SINKLORA_SHARED_DIR:-$SOURCE_DIR/../shared}/tokenizers" \
    "$SOURCE_DIR/deploy/sample_model/model" "$SOURCE_DIR"/tests/common/gguf/testdata/*/
}

if [ "$install" = yes ]; then
  step "Python environment in $venv"
  [ -x "$PYTHON" ] || python3 -m venv "$venv"
  "$PYTHON" -m pip install -q -r "$PARITY_DIR/requirements.txt"
fi
failed=()
for section in "${only[@]}"; do
  step "$section"
  # Not "run_x || ...", which would switch off set -e inside it.
  status=0
  (set -e; "run_$section") & wait $! || status=$?
  [ $status = 0 ] || failed+=("$section")
done

step "Summary"
for section in "${only[@]}"; do
  [[ " ${failed[*]} " == *" $section "* ]] && echo "$section: FAILED" || echo "$section: passed"
done
[ ${#failed[@]} = 0 ]
