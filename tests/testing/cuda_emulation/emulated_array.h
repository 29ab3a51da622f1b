// An array in emulated device memory, for tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_ARRAY_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_ARRAY_H_

#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/cuda_emulation/runtime.h"

namespace sinklora::emulation {

// Owns device memory of `count` elements, NaN until written. Move-only.
template <typename T>
class EmulatedArray {
 public:
  explicit EmulatedArray(size_t count) : count_(count) {
    void* at = nullptr;
    EXPECT_EQ(cudaMalloc(&at, count * sizeof(T)), cudaSuccess);
    data_ = static_cast<T*>(at);
  }
  explicit EmulatedArray(const std::vector<T>& values)
      : EmulatedArray(values.size()) {
    EXPECT_EQ(cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T),
                              cudaMemcpyHostToDevice, nullptr),
              cudaSuccess);
  }
  ~EmulatedArray() { cudaFree(data_); }
  EmulatedArray(const EmulatedArray&) = delete;
  EmulatedArray& operator=(const EmulatedArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> ToHost() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T),
                              cudaMemcpyDeviceToHost, nullptr),
              cudaSuccess);
    return values;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_ARRAY_H_
