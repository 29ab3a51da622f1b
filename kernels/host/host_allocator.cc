// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/host_allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace sinklora::kernels {
namespace {

int64_t RoundUp(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

bool IsBig(int64_t size_bytes) {
  return size_bytes >= HostAllocator::kHugePageBytes;
}

int64_t CapacityFor(int64_t size_bytes) {
  return RoundUp(std::max<int64_t>(size_bytes, 1),
                 IsBig(size_bytes) ? HostAllocator::kHugePageBytes
                                   : HostAllocator::kAlignmentBytes);
}

}  // namespace

HostAllocator::~HostAllocator() { ReleasePooled(); }

void HostAllocator::ReleasePooled() {
  for (const auto& [capacity, block] : pooled_) std::free(block);
  pooled_.clear();
  pooled_bytes_ = 0;
}

void* HostAllocator::TakePooled(int64_t capacity) {
  const auto it = pooled_.lower_bound(capacity);
  // More than a quarter wasted: leave the block for a request of its own size.
  if (it == pooled_.end() || it->first > capacity + capacity / 4) {
    return nullptr;
  }
  void* block = it->second;
  capacity_of_[block] = it->first;
  pooled_bytes_ -= it->first;
  pooled_.erase(it);
  return block;
}

Status HostAllocator::Allocate(int64_t size_bytes, void** out) {
  if (size_bytes < 0) {
    return InvalidArgument("allocate: size_bytes is " +
                           std::to_string(size_bytes) + ", must be >= 0");
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (size_bytes > limit_bytes_ - allocated_bytes_) {
    return Status(StatusCode::kResourceExhausted,
                  "allocate: size_bytes is " + std::to_string(size_bytes) +
                      " on top of " + std::to_string(allocated_bytes_) +
                      ", the machine has " + std::to_string(limit_bytes_));
  }
  const int64_t capacity = CapacityFor(size_bytes);
  void* block = IsBig(size_bytes) ? TakePooled(capacity) : nullptr;
  if (block == nullptr) {
    const int64_t alignment =
        IsBig(size_bytes) ? kHugePageBytes : kAlignmentBytes;
    block = std::aligned_alloc(alignment, capacity);
    if (block == nullptr) {
      ReleasePooled();
      block = std::aligned_alloc(alignment, capacity);
    }
    if (block == nullptr) {
      return Status(StatusCode::kResourceExhausted,
                    "allocate: no memory for " + std::to_string(size_bytes) +
                        " bytes on top of " + std::to_string(allocated_bytes_));
    }
    if (IsBig(size_bytes)) {
      // Advice only: without huge pages the block is just slower.
      (void)madvise(block, capacity, MADV_HUGEPAGE);
      capacity_of_[block] = capacity;
    }
  }
  allocated_bytes_ += size_bytes;
  peak_bytes_ = std::max(peak_bytes_, allocated_bytes_);
  *out = block;
  return OkStatus();
}

void HostAllocator::Free(void* data, int64_t size_bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  allocated_bytes_ -= size_bytes;
  if (!IsBig(size_bytes)) {
    std::free(data);
    return;
  }
  const auto it = capacity_of_.find(data);
  const int64_t capacity = it->second;
  capacity_of_.erase(it);
  if (pooled_bytes_ + capacity > max_pooled_bytes_) {
    std::free(data);
    return;
  }
  pooled_.emplace(capacity, data);
  pooled_bytes_ += capacity;
}

int64_t HostAllocator::allocated_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return allocated_bytes_;
}

int64_t HostAllocator::peak_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return peak_bytes_;
}

void HostAllocator::ResetPeak() {
  std::lock_guard<std::mutex> lock(mutex_);
  peak_bytes_ = allocated_bytes_;
}

}  // namespace sinklora::kernels
