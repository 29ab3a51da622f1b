#!/usr/bin/env bash
# check_kernel_resources.sh OBJECT...: fails unless every .cu object with kernels was compiled for sm_80 and sm_90, and when
# a kernel of attention spills registers or has a stack frame, which would be read from memory in its inner loop. Reads
# what deploy/cmake/keep_ptxas_report.sh kept beside each object.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
kernels=0
failed=0
for object in "$@"; do
  [[ $object == *.cu.o ]] || continue
  report=$object.ptxas
  if [[ ! -s $report ]]; then
    echo "no report of ptxas beside $object" >&2
    failed=1
    continue
  fi
  # Host code that needs the types of kernels has none of its own.
  grep -q "Compiling entry function" "$report" || continue
  for target in sm_80 sm_90; do
    if ! grep -q "for '$target'" "$report"; then
      echo "$(basename "$object") has no kernel for $target" >&2
      failed=1
    fi
  done
  kernels=$((kernels + $(grep -c "Compiling entry function" "$report")))
  [[ $object == *attention/*attention* ]] || continue
  if ! awk '
      /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2]; target = quoted[4] }
      /bytes stack frame/ && ($1 != 0 || $5 != 0 || $9 != 0) { print kernel, target ":" $0; bad = 1 }
      END { exit bad }' "$report" >&2; then
    echo "$(basename "$object"): a kernel spills" >&2
    failed=1
  fi
done
if ((kernels == 0)); then
  echo "no kernel at all" >&2
  failed=1
fi
echo "$kernels kernels seen"
exit $failed
