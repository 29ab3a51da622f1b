// Aligned host memory with counters and a small pool of big blocks.
//
// A training step frees and asks for the same large buffers again and again;
// giving them back to the system each time costs a page fault per page. Freed
// blocks of at least kHugePageBytes are kept, up to max_pooled_bytes, and
// handed out again to requests they fit with little waste.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_HOST_HOST_ALLOCATOR_H_
#define SINKLORA_KERNELS_HOST_HOST_ALLOCATOR_H_

#include <cstdint>
#include <map>
#include <mutex>

#include "kernels/host/host_memory.h"
#include "kernels/status.h"

namespace sinklora::kernels {

class HostAllocator {
 public:
  static constexpr int64_t kAlignmentBytes = 64;
  static constexpr int64_t kHugePageBytes = int64_t{2} << 20;

  explicit HostAllocator(int64_t max_pooled_bytes)
      : max_pooled_bytes_(max_pooled_bytes), limit_bytes_(HostMemoryBytes()) {}
  ~HostAllocator();
  HostAllocator(const HostAllocator&) = delete;
  HostAllocator& operator=(const HostAllocator&) = delete;

  // What it hands out at most: HostMemoryBytes().
  int64_t limit_bytes() const { return limit_bytes_; }

  // 64-byte aligned, not initialised. 0 bytes yields a valid pointer. Beyond
  // limit_bytes() in all it is kResourceExhausted: overcommit would grant it
  // and kill the process later.
  Status Allocate(int64_t size_bytes, void** out);
  // `size_bytes` as passed to Allocate.
  void Free(void* data, int64_t size_bytes);

  int64_t allocated_bytes() const;
  int64_t peak_bytes() const;
  void ResetPeak();

 private:
  void* TakePooled(int64_t capacity);
  void ReleasePooled();

  const int64_t max_pooled_bytes_;
  const int64_t limit_bytes_;
  mutable std::mutex mutex_;
  // State below is protected by mutex_.
  std::multimap<int64_t, void*> pooled_;  // by capacity
  int64_t pooled_bytes_ = 0;
  int64_t allocated_bytes_ = 0;
  int64_t peak_bytes_ = 0;
  std::map<void*, int64_t> capacity_of_;  // live big blocks
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_HOST_HOST_ALLOCATOR_H_
