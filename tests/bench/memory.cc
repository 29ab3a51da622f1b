// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/memory.h"

#include <cstdlib>
#include <fstream>
#include <string>

namespace sinklora::bench {
namespace {

// Lines are "Name:   123 kB".
int64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(name)) continue;
    return int64_t{std::atoll(line.c_str() + name.size())} << 10;
  }
  return 0;
}

}  // namespace

int64_t ResidentBytes() { return StatusBytes("VmRSS:"); }
int64_t PeakResidentBytes() { return StatusBytes("VmHWM:"); }
void ResetPeakResident() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace sinklora::bench
