// Tensors in host memory for the GPU check, which has no test framework.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_HOST_DATA_H_
#define SINKLORA_TESTS_GPU_HOST_DATA_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/tensor.h"

namespace sinklora::gpu_check {

// Contiguous.
class HostData {
 public:
  HostData() = default;
  HostData(kernels::DType dtype, std::vector<int64_t> shape) {
    layout_.dtype = dtype;
    layout_.rank = static_cast<int>(shape.size());
    int64_t step = 1;
    for (int i = layout_.rank - 1; i >= 0; --i) {
      layout_.shape[i] = shape[i];
      layout_.stride[i] = step;
      step *= shape[i];
    }
    bytes_.assign(static_cast<size_t>(step * kernels::SizeOf(dtype)), 0xff);
  }
  // Normal with standard deviation `scale`, rounded to the storage type.
  static HostData Random(kernels::DType dtype, std::vector<int64_t> shape,
                         uint64_t seed, double scale = 1.0) {
    HostData out(dtype, std::move(shape));
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(0.0, scale);
    for (int64_t i = 0; i < out.size(); ++i) {
      out.Set(i, static_cast<float>(normal(engine)));
    }
    return out;
  }
  static HostData Ints(std::vector<int64_t> shape,
                       const std::vector<int32_t>& values) {
    HostData out(kernels::DType::kI32, std::move(shape));
    std::memcpy(out.bytes_.data(), values.data(), out.bytes_.size());
    return out;
  }

  kernels::TensorView view() {
    kernels::TensorView out;
    out.dtype = layout_.dtype;
    out.rank = layout_.rank;
    out.shape = layout_.shape;
    out.stride = layout_.stride;
    out.data = bytes_.data();
    return out;
  }
  int64_t size() const { return layout_.num_elements(); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  double Get(int64_t i) const {
    const kernels::DType dtype = layout_.dtype;
    const void* data = bytes_.data();
    if (dtype == kernels::DType::kBF16) {
      return kernels::FromBf16(static_cast<const kernels::bf16_t*>(data)[i]);
    }
    if (dtype == kernels::DType::kF32) {
      return static_cast<const float*>(data)[i];
    }
    if (dtype == kernels::DType::kI32) {
      return static_cast<const int32_t*>(data)[i];
    }
    return static_cast<const int8_t*>(data)[i];
  }

 private:
  void Set(int64_t i, float value) {
    if (layout_.dtype == kernels::DType::kBF16) {
      reinterpret_cast<kernels::bf16_t*>(bytes_.data())[i] =
          kernels::ToBf16(value);
    } else {
      reinterpret_cast<float*>(bytes_.data())[i] = value;
    }
  }

  kernels::ConstTensorView layout_;
  std::vector<uint8_t> bytes_;
};

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_HOST_DATA_H_
