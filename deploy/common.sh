# SPDX-License-Identifier: Apache-2.0
# Shared by quickstart.sh and test.sh: installs what is missing, configures, builds. Sourced, not run.

set -euo pipefail

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Debian 12 packages, by purpose. Everything the build needs, and nothing else.
BUILD_PACKAGES=(
  g++ cmake ninja-build pkg-config
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev
  libabsl-dev librocksdb-dev prometheus-cpp-dev libdnnl-dev
  ocl-icd-opencl-dev libhwy-dev libpcre2-dev libicu-dev libsimdjson-dev
  nlohmann-json3-dev libspdlog-dev libfmt-dev libssl-dev libcli11-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)

# And what fuzzing needs: tests/fuzz/run.sh.
FUZZ_PACKAGES=(
  clang-14 libclang-rt-14-dev cmake ninja-build pkg-config
  libabsl-dev libpcre2-dev libicu-dev nlohmann-json3-dev libspdlog-dev
  libfmt-dev
  libssl-dev
)

step() { printf '\n\033[1m[%s] %s\033[0m\n' "$(date +%H:%M:%S)" "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    fail "root or sudo is needed to install packages: $*"
  fi
}

# install_packages PACKAGE...: installs those that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
      grep -q 'install ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    echo "all packages are there"
    return
  fi
  echo "installing ${#missing[@]} packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends "${missing[@]}" >/dev/null
}

# build PRESET [TARGET...]: configures and builds below build/PRESET.
build() {
  local preset=$1
  shift
  (
    cd "$SOURCE_DIR"
    cmake --preset "$preset" >/dev/null
    if [ $# -gt 0 ]; then
      cmake --build --preset "$preset" --target "$@"
    else
      cmake --build --preset "$preset"
    fi
  )
}
