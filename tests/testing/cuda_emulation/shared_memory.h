// The shared memory of the block that runs: dynamic memory that ends at an
// inaccessible page, and static variables with canaries between them. All bits
// set at the start of a block. Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sinklora::emulation {

class SharedMemory {
 public:
  SharedMemory();  // aborts without memory: a test cannot go on
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Starts a block. REQUIRES: dynamic_bytes <= kMaxSharedBytes.
  void Begin(int64_t dynamic_bytes);
  void* dynamic() const { return dynamic_; }
  // The variable that `key` stands for; null when there is no room.
  void* Static(const void* key, size_t bytes, size_t alignment);
  bool Holds(const void* address, size_t bytes) const;
  bool GapsUntouched() const;

 private:
  struct Variable {
    const void* key;
    uint8_t* at;
    size_t bytes;
  };
  uint8_t* memory_ = nullptr;
  uint8_t* dynamic_ = nullptr;
  uint8_t* dynamic_end_ = nullptr;
  std::vector<uint8_t> static_;
  std::vector<Variable> variables_;
  size_t static_used_ = 0;
};

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_
