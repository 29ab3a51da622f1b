// CacheDecode ops that a Repeat was told of: their table lies on the device
// before the first of its ops is asked for, at an address that stays, so that a
// record of the launches serves other tokens, too.
//
// Thread-compatible. Must not outlive its runtime.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_ANNOUNCED_DECODES_CUDA_H_
#define SINKLORA_KERNELS_CACHE_DECODE_ANNOUNCED_DECODES_CUDA_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cache_decode/decode_table_cuda.h"
#include "kernels/cuda/runtime.h"

namespace sinklora::kernels::cuda {

class AnnouncedDecodes {
 public:
  explicit AnnouncedDecodes(Runtime* runtime) : runtime_(runtime) {}
  ~AnnouncedDecodes();
  AnnouncedDecodes(const AnnouncedDecodes&) = delete;
  AnnouncedDecodes& operator=(const AnnouncedDecodes&) = delete;

  // From here to Forget CacheDecode ops are these, in this order. REQUIRES:
  // valid params, whose tokens stay where they are.
  Status Announce(std::span<const CacheDecodeParams> decodes,
                  CudaContext& context);
  void Forget() { announced_ = false; }
  bool announced() const { return announced_; }

  // The first op is the next again.
  void Rewind() { next_ = 0; }
  // The launches of `p`; kInvalidArgument when it is not the next op.
  Status Take(const CacheDecodeParams& p,
              std::span<const DecodeLaunch>* launches);
  // kInvalidArgument when there is a next op.
  Status CheckAllTaken() const;

  // Adds all that launches of the ops depend on, but for the table.
  void AppendTo(std::vector<uint64_t>* key) const;
  // Another number than before when the table has moved.
  uint64_t generation() const { return generation_; }

 private:
  struct Op {
    const DecodedToken* tokens;
    size_t first_launch, launches;
  };
  Status Reserve(int64_t size_bytes);

  Runtime* const runtime_;
  DecodeTable table_;
  std::vector<Op> ops_;
  bool announced_ = false;
  size_t next_ = 0;
  void* memory_ = nullptr;
  int64_t memory_bytes_ = 0;
  uint64_t generation_ = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_DECODE_ANNOUNCED_DECODES_CUDA_H_
