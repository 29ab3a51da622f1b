// Device memory of a benchmark.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_BENCH_MEMORY_H_
#define SINKLORA_TESTS_GPU_BENCH_MEMORY_H_

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels/cuda/cuda_context.h"
#include "kernels/tensor.h"

namespace sinklora::gpu_check {

// Filled with small numbers; freed with the object, which must not outlive its
// context.
class Memory {
 public:
  explicit Memory(kernels::cuda::CudaContext* context) : context_(context) {}
  ~Memory() {
    for (void* block : blocks_) context_->runtime().Free(block);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  kernels::Status Raw(int64_t size_bytes, void** out) {
    kernels::Status status = context_->runtime().Allocate(size_bytes, out);
    if (status.ok()) blocks_.push_back(*out);
    return status;
  }
  // Values in [-0.5, 0.5), the same pattern again and again.
  kernels::Status Tensor(kernels::DType dtype,
                         std::initializer_list<int64_t> shape,
                         kernels::TensorView* out) {
    *out = kernels::TensorView(nullptr, dtype, shape);
    const int64_t n = out->num_elements();
    kernels::Status status = Raw(n * kernels::SizeOf(dtype), &out->data);
    constexpr int64_t kPiece = int64_t{1} << 20;
    std::vector<uint8_t> piece(
        static_cast<size_t>(kPiece * kernels::SizeOf(dtype)));
    for (int64_t i = 0; i < kPiece; ++i) {
      const float value =
          static_cast<float>(i * 2654435761u % 65536) / 65536.0f - 0.5f;
      if (dtype == kernels::DType::kBF16) {
        reinterpret_cast<uint16_t*>(piece.data())[i] = kernels::ToBf16(value);
      } else {
        reinterpret_cast<float*>(piece.data())[i] = value;
      }
    }
    for (int64_t at = 0; status.ok() && at < n; at += kPiece) {
      status = context_->CopyToDevice(
          piece.data(),
          static_cast<char*>(out->data) + at * kernels::SizeOf(dtype),
          std::min(kPiece, n - at) * kernels::SizeOf(dtype));
    }
    return status;
  }
  kernels::Status Ints(const std::vector<int32_t>& values,
                       std::initializer_list<int64_t> shape,
                       kernels::TensorView* out) {
    *out = kernels::TensorView(nullptr, kernels::DType::kI32, shape);
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(int32_t));
    kernels::Status status = Raw(bytes, &out->data);
    return status.ok() ? context_->CopyToDevice(values.data(), out->data, bytes)
                       : status;
  }

 private:
  kernels::cuda::CudaContext* const context_;
  std::vector<void*> blocks_;
};

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_BENCH_MEMORY_H_
