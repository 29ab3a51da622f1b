// Reusable, growing, 64-byte aligned scratch memory. Contents are undefined
// after Reserve. Not thread-safe; kernels hold one per thread or one per op.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_SCRATCH_H_
#define SINKLORA_KERNELS_CPU_SCRATCH_H_

#include <cstdint>
#include <memory>
#include <new>

namespace sinklora::kernels::cpu {

class Scratch {
 public:
  // Room for `count` elements of T; earlier pointers become invalid when the
  // scratch grows. Throws std::bad_alloc.
  template <typename T>
  T* Reserve(int64_t count) {
    return static_cast<T*>(ReserveBytes(count * sizeof(T)));
  }

  void* ReserveBytes(int64_t size_bytes) {
    if (size_bytes > capacity_bytes_) {
      memory_.reset();  // before the larger block exists
      capacity_bytes_ = 0;
      memory_.reset(::operator new(size_bytes, kAlignment));
      capacity_bytes_ = size_bytes;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Deleter {
    void operator()(void* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<void, Deleter> memory_;
  int64_t capacity_bytes_ = 0;
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_SCRATCH_H_
