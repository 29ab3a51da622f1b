// One device buffer from which a step takes its activations.
//
// A layout is a function that takes tensors from an Arena. Run on an empty
// arena it only measures; run on a reserved one it hands out memory. The
// planner and the step share the function, so what was planned is what is
// allocated.
//
// Views live until the next Reset() or Reserve(). Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ARENA_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ARENA_H_

#include <cstdint>
#include <initializer_list>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class Arena {
 public:
  // Forgets what was taken; grows the buffer when it is smaller.
  // kResourceExhausted when memory is short.
  absl::Status Reserve(kernels::Backend* backend, int64_t bytes);
  // Forgets what was taken and gives the memory back.
  void Release();
  // A contiguous tensor, not initialised, 64-byte aligned. Beyond the reserved
  // size (also when measuring) the view has no data, which every op refuses.
  kernels::TensorView Take(kernels::DType dtype,
                           std::initializer_list<int64_t> shape);
  int64_t used_bytes() const { return used_bytes_; }

 private:
  kernels::Buffer buffer_;
  int64_t used_bytes_ = 0;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ARENA_H_
