// Decoded tokens: one launch each for all of them to store the tokens, for
// attention by tiles of slots, which leaves the scores, for the sums of tiles,
// and for the bookkeeping, one block a kv head. What differs between tokens is
// in device memory; blocks of a tile that a token does not have do nothing.
//
// SPDX-License-Identifier: Apache-2.0
#include <span>

#include "kernels/cache_decode/cache_decode_token_cuda-inl.h"
#include "kernels/cache_decode/decode_table_cuda.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

// A token that may go; the lowest goes.
struct Candidate {
  int rank;  // 0: no later query sees it; 1: by score; 2: there is none
  float score;
  int at;
  int slot;

  SINKLORA_DEVICE bool Before(const Candidate& other) const {
    if (rank != other.rank) return rank < other.rank;
    if (score != other.score) return score < other.score;
    return at < other.at;
  }
};

SINKLORA_DEVICE Candidate CandidateAt(const Books& b, int slot, int at,
                                      float score) {
  const Candidate none{2, 0.0f, 0, -1};
  if (at < 0) return none;
  if (b.window > 0 && b.latest + 1 - at >= b.window) return {0, 0.0f, at, slot};
  const bool kept = at < b.sink_tokens || at > b.latest - b.recent_tokens;
  return kept || score != score ? none : Candidate{1, score, at, slot};
}

// What the query heads add to the score of a slot, in their order.
SINKLORA_DEVICE float Probability(const Books& b, int kv_head, int slot) {
  float sum = 0.0f;
  for (int g = 0; g < b.group; ++g) {
    const int64_t row = static_cast<int64_t>(kv_head) * b.group + g;
    const float* state = b.states + row * 2;
    sum += Exp2(b.raw[row * b.used + slot] - state[0]) / state[1];
  }
  return sum;
}

// The lowest of all threads' candidates, in thread 0.
SINKLORA_DEVICE Candidate Lowest(Candidate own) {
  SINKLORA_SHARED(Candidate[kBlockThreads], candidates);
  const int thread = static_cast<int>(threadIdx.x);
  candidates[thread] = own;
  for (int half = kBlockThreads / 2; half > 0; half /= 2) {
    SyncThreads();
    if (thread < half && candidates[thread + half].Before(candidates[thread])) {
      candidates[thread] = candidates[thread + half];
    }
  }
  return candidates[0];
}

// Block (kv head, token): a warp.
SINKLORA_GLOBAL void StoreTokenKernel(const TokenArgs* tokens,
                                      DeviceFaults* faults) {
  const int kv_head = static_cast<int>(blockIdx.x);
  const TokenArgs& t = tokens[blockIdx.y];
  const int32_t slot = t.slots[kv_head * t.slots_head];
  if (!InRange(slot, 0, t.a.used, faults, ValueCheck::kCacheDecodeSlots,
               static_cast<int64_t>(blockIdx.y) * gridDim.x + kv_head,
               gridDim.x)) {
    return;
  }
  WriteRow(t.k, t.storage, 0, kv_head, slot, t.a.head_dim);
  WriteRow(t.v, t.storage, 0, kv_head, slot, t.a.head_dim);
  if (threadIdx.x == 0) {
    t.books.positions[kv_head * t.books.positions_head + slot] =
        t.a.only_position;
  }
}

// Block (tile, kRows rows, token and kv head).
template <typename T, int kRows>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kSlotTile, 2)
    DecodeTileKernel(const TokenArgs* tokens, int kv_heads) {
  const TokenArgs& t = tokens[static_cast<int>(blockIdx.z) / kv_heads];
  if (static_cast<int>(blockIdx.x) >= t.tiles) return;
  const CacheArgs a = t.a;
  StoreTile<T, kRows>(a, static_cast<int>(blockIdx.x), t.tiles,
                      static_cast<int>(blockIdx.y) * kRows,
                      static_cast<int>(blockIdx.z) % kv_heads, t.partials,
                      t.raw);
}

// Block (row, token and kv head).
SINKLORA_GLOBAL void DecodeCombineKernel(const TokenArgs* tokens,
                                         int kv_heads) {
  const TokenArgs& t = tokens[static_cast<int>(blockIdx.y) / kv_heads];
  const CacheArgs a = t.a;
  CombineTiles(a, t.out, static_cast<int>(blockIdx.x),
               static_cast<int>(blockIdx.y) % kv_heads, t.partials, t.tiles);
}

// Block (kv head, token).
SINKLORA_GLOBAL void BooksKernel(const TokenArgs* tokens) {
  SINKLORA_SHARED(float[kBlockWarps], shared);
  if (!tokens[blockIdx.y].keeps_books) return;
  const Books b = tokens[blockIdx.y].books;
  const int kv_head = static_cast<int>(blockIdx.x);
  // The query saw nothing, as its slot was bad: nothing is written.
  if (b.states[static_cast<int64_t>(kv_head) * b.group * 2 + 1] == 0.0f) return;
  int32_t* positions = b.positions + kv_head * b.positions_head;
  float* scores =
      b.scores == nullptr ? nullptr : b.scores + kv_head * b.scores_head;
  float growth = 0.0f;
  Candidate lowest{2, 0.0f, 0, -1};
  for (int slot = static_cast<int>(threadIdx.x); slot < b.used;
       slot += kBlockThreads) {
    float score = 0.0f;
    if (scores != nullptr) {
      const float added = Probability(b, kv_head, slot);
      growth += added;
      score = scores[slot] + added;
      if (added != 0.0f) scores[slot] = score;
    }
    const Candidate own = CandidateAt(b, slot, positions[slot], score);
    if (own.Before(lowest)) lowest = own;
  }
  growth = BlockSum(growth, shared);
  lowest = Lowest(lowest);
  if (threadIdx.x != 0) return;
  if (scores != nullptr) b.growth[kv_head] = growth;
  if (b.victims == nullptr) return;
  b.victims[kv_head] = lowest.slot;
  if (lowest.slot < 0) return;
  positions[lowest.slot] = -1;
  if (scores != nullptr) scores[lowest.slot] = 0.0f;
}

template <typename T, int kRows>
Status AttendTiles(const DecodeLaunch& g, CudaContext& context) {
  return Launch(
      "cache_decode_tiles", DecodeTileKernel<T, kRows>,
      {.grid = dim3(g.tiles, static_cast<unsigned>(CeilDiv(g.rows, kRows)),
                    g.count * g.kv_heads),
       .block = dim3(kSlotTile),
       .dynamic_shared_bytes = CacheSharedBytes<T, kRows>(g.head_dim)},
      context.stream(), g.tokens, static_cast<int>(g.kv_heads));
}

// The choice follows the family alone and changes no bit.
template <typename T>
Status AttendTiles(const DecodeLaunch& g, CudaContext& context) {
  if (g.rows == 1) return AttendTiles<T, 1>(g, context);
  if (g.rows <= 4) return AttendTiles<T, 4>(g, context);
  return AttendTiles<T, 8>(g, context);
}

Status AttendAnyTiles(const DecodeLaunch& g, CudaContext& context) {
  switch (g.storage) {
    case DType::kBF16:
      return AttendTiles<bf16_t>(g, context);
    case DType::kI8:
      return AttendTiles<int8_t>(g, context);
    default:
      return AttendTiles<float>(g, context);
  }
}

Status LaunchAll(const DecodeLaunch& g, CudaContext& context) {
  Status status =
      Launch("cache_decode_store", StoreTokenKernel,
             {.grid = dim3(g.kv_heads, g.count), .block = dim3(kWarpThreads)},
             context.stream(), g.tokens, context.faults());
  if (status.ok()) status = AttendAnyTiles(g, context);
  if (status.ok()) {
    status = Launch(
        "cache_decode_combine", DecodeCombineKernel,
        {.grid = dim3(g.rows, g.count * g.kv_heads), .block = dim3(kSlotTile)},
        context.stream(), g.tokens, static_cast<int>(g.kv_heads));
  }
  if (!status.ok() || !g.keeps_books) return status;
  return Launch(
      "cache_decode_books", BooksKernel,
      {.grid = dim3(g.kv_heads, g.count), .block = dim3(kBlockThreads)},
      context.stream(), g.tokens);
}

}  // namespace

Status CacheDecodeCuda(const CacheDecodeParams& p, CudaContext& context) {
  if (p.tokens.empty()) return OkStatus();
  Status status;
  DecodeTable own;
  std::span<const DecodeLaunch> launches;
  if (context.decodes().announced()) {
    status = context.decodes().Take(p, &launches);
  } else {
    own.Add(p);
    char* memory = nullptr;
    status = context.Scratch(own.size_bytes(), &memory);
    if (status.ok()) status = own.Upload(memory, context);
    launches = own.launches();
  }
  for (const DecodeLaunch& launch : launches) {
    if (status.ok()) status = LaunchAll(launch, context);
  }
  return status;
}

}  // namespace sinklora::kernels::cuda
