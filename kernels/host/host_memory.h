// How much memory this process may use.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_HOST_HOST_MEMORY_H_
#define SINKLORA_KERNELS_HOST_HOST_MEMORY_H_

#include <cstdint>
#include <string>

namespace sinklora::kernels {

// The machine's memory, or less where a cgroup (v2, or v1 at its usual place)
// of the process allows less. Thread-safe.
int64_t HostMemoryBytes();

// The least limit of `cgroup` ("/a/b") and its parents below `root`, where
// memory.max of v2 lies; `otherwise` where none limits.
int64_t CgroupLimitBytes(const std::string& root, const std::string& cgroup,
                         int64_t otherwise);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_HOST_HOST_MEMORY_H_
