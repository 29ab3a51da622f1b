#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds everything and runs the tests. Works on a bare Debian 12 as root or with sudo, and
# can be run again.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TXT'
Usage: deploy/test.sh [--preset release|debug|asan|tsan] [--label REGEX] [--no-install]

  --preset NAME   CMake preset to build and test (default: release)
  --label REGEX   only tests whose label matches: unit, service, e2e
                  (default: all; for tsan: unit|service)
  --no-install    do not install packages

Example: deploy/test.sh --preset asan --label unit
TXT
}

preset=release
label=
install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --label) label=${2:?--label needs a pattern}; shift 2 ;;
    --no-install) install=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
case $preset in release | debug | asan | tsan) ;; *) fail "unknown preset $preset" ;; esac
[ "$preset" != tsan ] || label=${label:-unit|service}

started=$SECONDS
step "Packages"
if [ "$install" = yes ]; then
  install_packages "${BUILD_PACKAGES[@]}" prometheus
fi
step "Build ($preset)"
build "$preset"
built=$SECONDS
step "Tests ($preset${label:+, label $label})"
cd "$SOURCE_DIR"
status=0
ctest --preset "$preset" ${label:+-L "$label"} || status=$?

step "Summary"
skipped=$(awk '/\[  SKIPPED \] [0-9]+ test/ {n += $4} END {print n + 0}' \
  "build/$preset/Testing/Temporary/LastTest.log")
printf 'preset %s: installed and built in %d s, tested in %d s, %s test cases skipped, %s\n' \
  "$preset" $((built - started)) $((SECONDS - built)) "$skipped" \
  "$([ $status = 0 ] && echo 'all passed' || echo 'FAILED')"
exit $status
