// Decoded tokens: one launch each for all of them to store the tokens, for
// attention by tiles of slots, which leaves the scores, for the sums of tiles,
// and for the bookkeeping, one block a kv head. What differs between tokens is
// in device memory; blocks of a tile that a token does not have do nothing.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <span>
#include <vector>

#include "kernels/cache_attention/cache_attend_cuda-inl.h"
#include "kernels/cache_attention/cache_host_cuda.h"
#include "kernels/cache_attention/cache_write_cuda-inl.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

struct Books {
  const float* raw;     // [kv_heads, group, used], times log2(e)
  const float* states;  // [kv_heads, group, 2]: top and total
  int32_t* positions;   // [kv_heads, slots], rows positions_head apart
  int64_t positions_head;
  float* scores;  // [kv_heads, slots], rows scores_head apart; or null
  int64_t scores_head;
  float* growth;     // [kv_heads], with scores
  int32_t* victims;  // [kv_heads]; or null
  int used, group;
  int64_t latest, window, sink_tokens, recent_tokens;
};

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

// What the kernels know of a token.
struct Token {
  NewRows k, v;
  DType storage;
  const int32_t* slots;  // [kv_heads], slots_head apart
  int64_t slots_head;
  CacheArgs a;
  CacheOut out;
  int tiles;
  float* partials;  // sums of tiles
  float* raw;       // [kv_heads, group, used], with scores; else null
  bool keeps_books;
  Books books;
};

// Block (kv head, token): a warp.
SINKLORA_GLOBAL void StoreTokenKernel(const Token* tokens,
                                      DeviceFaults* faults) {
  const int kv_head = static_cast<int>(blockIdx.x);
  const Token& t = tokens[blockIdx.y];
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
    DecodeTileKernel(const Token* tokens, int kv_heads) {
  const Token& t = tokens[static_cast<int>(blockIdx.z) / kv_heads];
  if (static_cast<int>(blockIdx.x) >= t.tiles) return;
  const CacheArgs a = t.a;
  StoreTile<T, kRows>(a, static_cast<int>(blockIdx.x), t.tiles,
                      static_cast<int>(blockIdx.y) * kRows,
                      static_cast<int>(blockIdx.z) % kv_heads, t.partials,
                      t.raw);
}

// Block (row, token and kv head).
SINKLORA_GLOBAL void DecodeCombineKernel(const Token* tokens, int kv_heads) {
  const Token& t = tokens[static_cast<int>(blockIdx.y) / kv_heads];
  const CacheArgs a = t.a;
  CombineTiles(a, t.out, static_cast<int>(blockIdx.x),
               static_cast<int>(blockIdx.y) % kv_heads, t.partials, t.tiles);
}

// Block (kv head, token).
SINKLORA_GLOBAL void BooksKernel(const Token* tokens) {
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

Token TokenOf(const DecodedToken& p, const CacheDecodeParams& batch) {
  Token t{};
  t.k = NewRowsOf(p.k, p.cache.k, p.cache.k_scale);
  t.v = NewRowsOf(p.v, p.cache.v, p.cache.v_scale);
  for (NewRows* rows : {&t.k, &t.v}) {  // [kv_heads, head_dim]
    rows->from_head = rows->from_token;
    rows->from_token = 0;
  }
  t.storage = p.cache.k.dtype;
  t.slots = p.slots.as<int32_t>();
  t.slots_head = p.slots.stride[0];
  t.a = ArgsOf(p.cache, batch.window, batch.scale);
  t.a.q = p.q.as<float>();
  t.a.q_head = p.q.stride[0];
  t.a.only_position = p.position;
  t.a.group = t.a.rows = static_cast<int>(p.q.shape[0] / p.cache.k.shape[0]);
  t.out.out = p.out.as<float>();
  t.out.out_head = p.out.stride[0];
  t.tiles = static_cast<int>(CeilDiv(t.a.used, kSlotTile));
  t.keeps_books = !p.scores.empty() || !p.victims.empty();
  t.books = {.raw = nullptr,
             .states = nullptr,
             .positions = p.cache.positions.as<int32_t>(),
             .positions_head = p.cache.positions.stride[0],
             .scores = p.scores.as<float>(),
             .scores_head = p.scores.stride[0],
             .growth = p.growth.as<float>(),
             .victims = p.victims.as<int32_t>(),
             .used = t.a.used,
             .group = t.a.group,
             .latest = p.position,
             .window = batch.window,
             .sink_tokens = p.sink_tokens,
             .recent_tokens = p.recent_tokens};
  return t;
}

// Gives a token its scratch.
Status TakeScratch(int64_t kv_heads, Token* t, CudaContext& context) {
  const int64_t rows = kv_heads * t->a.rows;
  Status status =
      context.Scratch(rows * t->tiles * (t->a.head_dim + 2), &t->partials);
  if (status.ok() && t->books.scores != nullptr) {
    status = context.Scratch(rows * t->a.used, &t->raw);
    t->books.raw = t->raw;
  }
  if (status.ok() && t->keeps_books) {
    status = context.Scratch(rows * 2, &t->out.states);
    t->books.states = t->out.states;
  }
  return status;
}

// What the launches of some tokens have in common.
struct Grid {
  const Token* tokens;  // on the device
  unsigned count, kv_heads, tiles, rows;
  int head_dim;
  bool keeps_books;
};

template <typename T, int kRows>
Status AttendTiles(const Grid& g, CudaContext& context) {
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
Status AttendTiles(const Grid& g, CudaContext& context) {
  if (g.rows == 1) return AttendTiles<T, 1>(g, context);
  if (g.rows <= 4) return AttendTiles<T, 4>(g, context);
  return AttendTiles<T, 8>(g, context);
}

Status AttendTiles(DType storage, const Grid& g, CudaContext& context) {
  switch (storage) {
    case DType::kBF16:
      return AttendTiles<bf16_t>(g, context);
    case DType::kI8:
      return AttendTiles<int8_t>(g, context);
    default:
      return AttendTiles<float>(g, context);
  }
}

Status LaunchAll(DType storage, const Grid& g, CudaContext& context) {
  Status status =
      Launch("cache_decode_store", StoreTokenKernel,
             {.grid = dim3(g.kv_heads, g.count), .block = dim3(kWarpThreads)},
             context.stream(), g.tokens, context.faults());
  if (status.ok()) status = AttendTiles(storage, g, context);
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

Status Decode(const CacheDecodeParams& p, std::span<const DecodedToken> some,
              CudaContext& context) {
  const DecodedToken& first = some[0];
  const int64_t kv_heads = first.cache.k.shape[0];
  const auto count = static_cast<int64_t>(some.size());
  Token* tokens = nullptr;
  Status status = context.Scratch(count, &tokens);
  std::vector<Token> host;
  host.reserve(some.size());
  Grid g{.tokens = tokens,
         .count = static_cast<unsigned>(count),
         .kv_heads = static_cast<unsigned>(kv_heads),
         .tiles = 0,
         .rows = static_cast<unsigned>(first.q.shape[0] / kv_heads),
         .head_dim = static_cast<int>(first.cache.k.shape[2]),
         .keeps_books = false};
  for (const DecodedToken& token : some) {
    if (!status.ok()) return status;
    Token& t = host.emplace_back(TokenOf(token, p));
    status = TakeScratch(kv_heads, &t, context);
    g.tiles = std::max(g.tiles, static_cast<unsigned>(t.tiles));
    g.keeps_books = g.keeps_books || t.keeps_books;
  }
  if (status.ok()) {
    status = context.CopyToDevice(host.data(), tokens,
                                  count * static_cast<int64_t>(sizeof(Token)));
  }
  return status.ok() ? LaunchAll(first.cache.k.dtype, g, context) : status;
}

}  // namespace

Status CacheDecodeCuda(const CacheDecodeParams& p, CudaContext& context) {
  if (p.tokens.empty()) return OkStatus();
  // As many at once as a grid holds.
  constexpr int64_t kMostBlocks = 65535;
  const auto most = static_cast<size_t>(
      std::max<int64_t>(1, kMostBlocks / p.tokens[0].cache.k.shape[0]));
  Status status;
  for (size_t i = 0; i < p.tokens.size() && status.ok(); i += most) {
    status = Decode(p, p.tokens.subspan(i, std::min(most, p.tokens.size() - i)),
                    context);
  }
  return status;
}

}  // namespace sinklora::kernels::cuda
