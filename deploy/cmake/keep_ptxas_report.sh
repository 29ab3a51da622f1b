#!/usr/bin/env bash
# Compiler launcher: runs the command and keeps what ptxas reports of its kernels in OBJECT.ptxas instead of printing it.
#
# SPDX-License-Identifier: Apache-2.0
set -u
object=
for ((i = 1; i < $#; ++i)); do
  if [[ ${!i} == -o ]]; then
    next=$((i + 1))
    object=${!next}
  fi
done
[[ -n $object ]] || exec "$@"
"$@" 2>"$object.ptxas"
status=$?
grep -vE '^ptxas info|bytes stack frame|bytes spill' "$object.ptxas" >&2
exit $status
