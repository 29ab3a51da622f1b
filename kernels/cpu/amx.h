// For functions written with AMX: tiles of 16 rows of 64 bytes and their bf16
// products (Intel since Sapphire Rapids). Elsewhere there is just the answer
// that there are none.
//
// A tile product adds, for each of its 16 x 16 results, the even and the odd
// elements of 32 along the summed dimension in two chains from zero, then their
// sum to the result. So a result has the same bits wherever it is computed, as
// long as its summed dimension is cut at the same multiples of 32, and elements
// of zero (padding) change nothing. Denormals count as zero.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_AMX_H_
#define SINKLORA_KERNELS_CPU_AMX_H_

#include <cstdint>

#if defined(__x86_64__)
#include "kernels/cpu/avx512.h"

#define SINKLORA_AMX_TARGET                                                    \
  __attribute__((                                                              \
      target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-" \
             "bf16")))
#endif

namespace sinklora::kernels::cpu {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileColumns = 16;  // of results, f32
inline constexpr int64_t kTileElements =
    32;  // bf16, along the summed dimension
inline constexpr int64_t kTilePairs = kTileElements / 2;
inline constexpr int64_t kTileRowBytes = 64;
inline constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;

#if defined(__x86_64__)
// Whether the processor has bf16 tiles and the kernel lets this process use
// them, which is asked for at the first call. Thread-safe.
bool AmxUsable();

// While it lives, this thread has tiles of 16 rows; what they hold is
// undefined. Tiles 4 and 5, left operands, have rows of 64 bytes. The others,
// right operands and results, have `columns` words a row, of which a product of
// a few columns need not load more. Not nested. REQUIRES: AmxUsable(), columns
// in [1, 16].
class TileScope {
 public:
  explicit TileScope(int64_t columns = kTileColumns);
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};
#else
inline bool AmxUsable() { return false; }
struct TileScope {};
#endif

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_AMX_H_
