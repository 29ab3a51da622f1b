// The host's side of cache_decode on CUDA: a table of what kernels are told of
// each token, with the scratch memory that they name, and what is launched over
// it. All that changes from token to token is in the table.
//
// Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_DECODE_TABLE_CUDA_H_
#define SINKLORA_KERNELS_CACHE_DECODE_DECODE_TABLE_CUDA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cache_decode/cache_decode.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cuda {

class CudaContext;
struct TokenArgs;  // cache_decode_token_cuda-inl.h

// One launch of each kernel: tokens of one op, as many as a grid holds.
struct DecodeLaunch {
  const TokenArgs* tokens = nullptr;  // [count], on the device
  unsigned count = 0, kv_heads = 0;
  unsigned rows = 0;  // of a kv head
  // Blocks along the slots: those of the longest cache, rounded up to a power
  // of two so that it holds for many steps. The rest have nothing to do.
  unsigned tiles = 0;
  int head_dim = 0;
  DType storage = DType::kF32;
  bool keeps_books = false;  // some token does
};

class DecodeTable {
 public:
  DecodeTable();
  ~DecodeTable();
  DecodeTable(const DecodeTable&) = delete;
  DecodeTable& operator=(const DecodeTable&) = delete;

  void Clear();
  // Adds the tokens of an op. REQUIRES: its params are valid.
  void Add(const CacheDecodeParams& p);
  // Device memory for it. Launches share the scratch: they run one after the
  // other.
  int64_t size_bytes() const;
  // Puts it at `memory`, 256-byte aligned.
  Status Upload(void* memory, CudaContext& context);
  // Of all ops in the order they were added; with addresses after Upload.
  std::span<const DecodeLaunch> launches() const { return launches_; }

 private:
  void AddLaunch(const CacheDecodeParams& p,
                 std::span<const DecodedToken> tokens);

  std::vector<TokenArgs> args_;
  std::vector<DecodeLaunch> launches_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_DECODE_DECODE_TABLE_CUDA_H_
