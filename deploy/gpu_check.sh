#!/usr/bin/env bash
# Checks the CUDA backend on a machine with a GPU and times it, within 9 minutes. Needs nvcc, its host compiler and
# cuBLASLt, and nothing else: no package is installed, nothing is fetched.
#
#   deploy/gpu_check.sh [--build-only] [--out DIR]
#
# Builds what it needs into DIR (default out/gpu_check), compares every op with the double reference on random data
# and repeated decode steps (CUDA graphs) with their ops one by one,
# and, where there are several GPUs, sums over all of them with sums on the host (that needs NCCL), runs a part of it
# under compute-sanitizer where there is one, prints tables of times, and leaves DIR/checks.json and DIR/times.json.
# Exit status 0: everything built, and every check passed.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=out/gpu_check
build_only=false
while (($#)); do
  case $1 in
    --build-only) build_only=true ;;
    --out) out=${2:?--out needs a directory}; shift ;;
    *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out/obj"
out=$(cd "$out" && pwd)
begin=$SECONDS
deadline=$((begin + 540))

nvcc=$(command -v nvcc || true)
[[ -n $nvcc ]] || nvcc=${CUDA_PATH:-/usr/local/cuda}/bin/nvcc
[[ -x $nvcc ]] || { echo "nvcc not found; put it on the PATH or name the toolkit in CUDA_PATH" >&2; exit 2; }
toolkit=$(cd "$(dirname "$(readlink -f "$nvcc")")/.." && pwd)

# The GPU at hand or, to see that it builds where there is none, the oldest that is served.
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ' || true)
if [[ $capability =~ ^[0-9]+$ ]]; then
  targets="-gencode arch=compute_$capability,code=sm_$capability"
else
  targets="-gencode arch=compute_80,code=sm_80"
fi

# One list of the backend's sources, in kernels/CMakeLists.txt.
mapfile -t backend < <(sed -n '/^set(SINKLORA_CUDA_SOURCES/,/)/p' kernels/CMakeLists.txt | grep -oE '[a-z0-9_/]+\.(cu|cc)')
nccl=(kernels/cuda/nccl_{communicator,library}.cc)
if ! echo '#include <nccl.h>' | "$nvcc" -x cu -E - >/dev/null 2>&1; then nccl=(kernels/cuda/nccl_absent.cc); fi
sources=("${backend[@]/#/kernels/}" kernels/cuda/{cublaslt_gemm,cuda_runtime,plugin}.cc "${nccl[@]}"
  kernels/*/*_validate.cc kernels/*/*_reference.cc kernels/validator.cc
  kernels/attention/{attention_plan,pattern}.cc kernels/host/*.cc kernels/reference/reference_backend.cc
  tests/gpu/{attention_checks,benchmarks,checker,collective_check,decode_layers,gpu_check_main,op_checks}.cc
  tests/kernels/cuda/{decode_step,host_view_backend}.cc)

version=$(sed -nE 's/^project\(sinklora VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
compile() {
  local object=$OUT/obj/${1//\//_}.o
  # shellcheck disable=SC2086 # targets are several words
  "$NVCC" -std=c++20 -O3 -I. -DSINKLORA_VERSION="\"$VERSION\"" --expt-relaxed-constexpr -diag-suppress=2810 \
    -Xcompiler=-Wall,-Wextra $TARGETS -c "$1" -o "$object"
}
export -f compile
export NVCC=$nvcc OUT=$out VERSION=$version TARGETS=$targets
rm -f "$out"/obj/*.o
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} bash -c 'compile "$1" || exit 255' _ {}
"$nvcc" -cudart static "$out"/obj/*.o -o "$out/gpu_check" -ldl -lpthread
echo "built $out/gpu_check in $((SECONDS - begin)) s ($targets)"
if $build_only; then exit 0; fi

export LD_LIBRARY_PATH=$toolkit/lib64:$toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
status=0
left() { echo $((deadline - SECONDS)); }
timeout "$(left)" "$out/gpu_check" --out="$out/checks.json" || status=$?
sanitizer=$(command -v compute-sanitizer || echo "$toolkit/bin/compute-sanitizer")
if [[ -x $sanitizer ]]; then
  for tool in memcheck racecheck; do
    echo "compute-sanitizer $tool"
    timeout 60 "$sanitizer" --tool "$tool" --error-exitcode 3 "$out/gpu_check" --quick >"$out/$tool.txt" 2>&1 || {
      status=$?
      tail -n 20 "$out/$tool.txt"
    }
  done
else
  echo "compute-sanitizer not found: skipped"
fi
bench_seconds=$(($(left) - 20))
if ((bench_seconds > 10)); then
  timeout "$(left)" "$out/gpu_check" --no-checks --bench-seconds="$bench_seconds" --out="$out/times.json" || status=$?
else
  echo "no time left for the tables" >&2
  status=1
fi
echo "done in $((SECONDS - begin)) s, status $status; $out/checks.json, $out/times.json"
exit $status
