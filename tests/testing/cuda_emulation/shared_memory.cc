// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/shared_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/testing/cuda_emulation/engine.h"

namespace sinklora::emulation {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kDynamicBytes =
    (kMaxSharedBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
constexpr size_t kMappedBytes = kDynamicBytes + 2 * kPageBytes;
constexpr size_t kDynamicAlignment = 128;
constexpr size_t kStaticBytes = 48 * 1024;  // a block's limit
constexpr size_t kGapBytes = 64;
constexpr uint8_t kPoison = 0xFF;
constexpr uint8_t kCanary = 0xA5;

}  // namespace

SharedMemory::SharedMemory() : static_(kStaticBytes * 2) {
  void* at = mmap(nullptr, kMappedBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED ||
      mprotect(static_cast<char*>(at) + kMappedBytes - kPageBytes, kPageBytes,
               PROT_NONE) != 0) {
    std::perror("emulated shared memory");
    std::abort();
  }
  // The dynamic part ends where the inaccessible page begins.
  memory_ = static_cast<uint8_t*>(at) + kPageBytes - kGapBytes;
}

SharedMemory::~SharedMemory() {
  munmap(memory_ + kGapBytes - kPageBytes, kMappedBytes);
}

void SharedMemory::Begin(int64_t dynamic_bytes) {
  const size_t rounded =
      (static_cast<size_t>(dynamic_bytes) + kDynamicAlignment - 1) /
      kDynamicAlignment * kDynamicAlignment;
  dynamic_ = memory_ + kGapBytes + kDynamicBytes - rounded;
  dynamic_end_ = dynamic_ + dynamic_bytes;
  std::memset(dynamic_ - kGapBytes, kCanary, kGapBytes);
  std::memset(dynamic_, kPoison, static_cast<size_t>(dynamic_bytes));
  std::memset(dynamic_end_, kCanary, rounded - dynamic_bytes);
  variables_.clear();
  static_used_ = 0;
}

void* SharedMemory::Static(const void* key, size_t bytes, size_t alignment) {
  size_t total = bytes;
  for (const Variable& v : variables_) {
    if (v.key == key) return v.at;
    total += v.bytes;
  }
  uint8_t* const free = static_.data() + static_used_;
  const auto begin = reinterpret_cast<uintptr_t>(free) + kGapBytes;
  auto* at = reinterpret_cast<uint8_t*>((begin + alignment - 1) / alignment *
                                        alignment);
  uint8_t* const end = at + bytes + kGapBytes;
  if (total > kStaticBytes || end > static_.data() + static_.size()) {
    return nullptr;
  }
  std::memset(free, kCanary, end - free);
  std::memset(at, kPoison, bytes);
  static_used_ = end - static_.data();
  variables_.push_back({key, at, bytes});
  return at;
}

bool SharedMemory::Holds(const void* address, size_t bytes) const {
  const auto* begin = static_cast<const uint8_t*>(address);
  if (begin >= dynamic_ && begin + bytes <= dynamic_end_) return true;
  return std::any_of(variables_.begin(), variables_.end(),
                     [&](const Variable& v) {
                       return begin >= v.at && begin + bytes <= v.at + v.bytes;
                     });
}

bool SharedMemory::GapsUntouched() const {
  const auto canary = [](const uint8_t* begin, const uint8_t* end) {
    return std::all_of(begin, end, [](uint8_t b) { return b == kCanary; });
  };
  if (!canary(dynamic_ - kGapBytes, dynamic_)) return false;
  if (!canary(dynamic_end_, memory_ + kGapBytes + kDynamicBytes)) return false;
  const uint8_t* from = static_.data();
  for (const Variable& v : variables_) {
    if (!canary(from, v.at)) return false;
    if (!canary(v.at + v.bytes, v.at + v.bytes + kGapBytes)) return false;
    from = v.at + v.bytes + kGapBytes;
  }
  return true;
}

}  // namespace sinklora::emulation
