// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace sinklora::kernels {
namespace {

constexpr char kCgroupRoot[] = "/sys/fs/cgroup";

// A number in a file; `otherwise` for "max" and where there is none.
int64_t ReadBytes(const std::string& path, int64_t otherwise) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value && value > 0 ? value : otherwise;
}

// Of v2 the line "0::/a/b"; "/" where there is none.
std::string OwnCgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0) return line.substr(3);
  }
  return "/";
}

}  // namespace

int64_t CgroupLimitBytes(const std::string& root, const std::string& cgroup,
                         int64_t otherwise) {
  int64_t limit = otherwise;
  for (std::string at = cgroup == "/" ? "" : cgroup;;) {
    limit = std::min(limit, ReadBytes(root + at + "/memory.max", otherwise));
    const size_t slash = at.rfind('/');
    if (slash == std::string::npos) return limit;
    at.resize(slash);
  }
}

int64_t HostMemoryBytes() {
  const int64_t machine = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) *
                          static_cast<int64_t>(sysconf(_SC_PAGESIZE));
  const int64_t v1 = ReadBytes(
      std::string(kCgroupRoot) + "/memory/memory.limit_in_bytes", machine);
  return CgroupLimitBytes(kCgroupRoot, OwnCgroup(), std::min(machine, v1));
}

}  // namespace sinklora::kernels
