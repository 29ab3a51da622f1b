// Scratch memory of one op on the device: a stack that is emptied before each
// op. It grows to what the largest op needs and then allocates no more.
//
// Thread-compatible. Must not outlive its runtime.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_SCRATCH_H_
#define SINKLORA_KERNELS_CUDA_SCRATCH_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

class ScratchArena {
 public:
  explicit ScratchArena(Runtime* runtime) : runtime_(runtime) {}
  ~ScratchArena() { Release(); }
  ScratchArena(const ScratchArena&) = delete;
  ScratchArena& operator=(const ScratchArena&) = delete;

  // Everything taken is free again. Blocks that an op had to add become one.
  void Reset() {
    used_bytes_ = 0;
    if (blocks_.size() < 2) return;
    wanted_bytes_ = 0;
    for (const Block& block : blocks_) wanted_bytes_ += block.size_bytes;
    Release();
  }

  // Reset, and ops that were run before will allocate nothing more.
  Status Settle() {
    Reset();
    if (wanted_bytes_ == 0) return OkStatus();
    void* unused = nullptr;
    Status status = Take(1, &unused);
    used_bytes_ = 0;
    return status;
  }

  // Another number than before when memory that was handed out has moved.
  uint64_t generation() const { return generation_; }

  // 256-byte aligned, not initialised, until Reset. 0 bytes give an address,
  // too.
  Status Take(int64_t size_bytes, void** out) {
    constexpr int64_t kAlignmentBytes = 256;
    const int64_t padded =
        std::max(kAlignmentBytes, (size_bytes + kAlignmentBytes - 1) /
                                      kAlignmentBytes * kAlignmentBytes);
    if (blocks_.empty() || used_bytes_ + padded > blocks_.back().size_bytes) {
      Block block;
      block.size_bytes = std::max(padded, wanted_bytes_);
      Status status = runtime_->Allocate(block.size_bytes, &block.data);
      if (!status.ok()) return status;
      wanted_bytes_ = 0;
      ++generation_;
      blocks_.push_back(block);
      used_bytes_ = 0;
    }
    *out = static_cast<char*>(blocks_.back().data) + used_bytes_;
    used_bytes_ += padded;
    return OkStatus();
  }

 private:
  struct Block {
    void* data = nullptr;
    int64_t size_bytes = 0;
  };

  void Release() {
    for (const Block& block : blocks_) runtime_->Free(block.data);
    blocks_.clear();
  }

  Runtime* const runtime_;
  std::vector<Block> blocks_;  // only the last one has room
  int64_t used_bytes_ = 0;     // of the last block
  int64_t wanted_bytes_ = 0;   // of the next block, at least
  uint64_t generation_ = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_SCRATCH_H_
