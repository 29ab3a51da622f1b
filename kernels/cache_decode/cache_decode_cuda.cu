// One decoded token: attention by tiles of slots, which leaves the scores, then
// one block a kv head for the bookkeeping.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "kernels/cache_attention/cache_host_cuda.h"
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

// Block: kv head.
SINKLORA_GLOBAL void BooksKernel(Books b) {
  SINKLORA_SHARED(float[kBlockWarps], shared);
  const int kv_head = static_cast<int>(blockIdx.x);
  // The query saw nothing, which is noted: nothing is written.
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

Status KeepBooks(const CacheDecodeParams& p, const CacheArgs& a,
                 const float* raw, const float* states, CudaContext& context) {
  const Books books{.raw = raw,
                    .states = states,
                    .positions = p.cache.positions.as<int32_t>(),
                    .positions_head = p.cache.positions.stride[0],
                    .scores = p.scores.as<float>(),
                    .scores_head = p.scores.stride[0],
                    .growth = p.growth.as<float>(),
                    .victims = p.victims.as<int32_t>(),
                    .used = a.used,
                    .group = a.group,
                    .latest = p.position,
                    .window = p.window,
                    .sink_tokens = p.sink_tokens,
                    .recent_tokens = p.recent_tokens};
  return Launch("cache_decode_books", BooksKernel,
                {.grid = dim3(static_cast<unsigned>(p.cache.k.shape[0])),
                 .block = dim3(kBlockThreads)},
                context.stream(), books);
}

}  // namespace

Status CacheDecodeCuda(const CacheDecodeParams& p, CudaContext& context) {
  const int64_t kv_heads = p.cache.k.shape[0];
  if (p.q.shape[0] == 0) return OkStatus();
  CacheArgs a = ArgsOf(p.cache, p.window, p.scale);
  a.q = p.q.as<float>();
  a.q_head = p.q.stride[0];
  a.only_position = p.position;
  a.group = a.rows = static_cast<int>(p.q.shape[0] / kv_heads);
  const bool books = !p.scores.empty() || !p.victims.empty();
  float* raw = nullptr;
  float* states = nullptr;
  Status status;
  if (!p.scores.empty()) {
    status = context.Scratch(kv_heads * a.rows * a.used, &raw);
  }
  if (status.ok() && books) {
    status = context.Scratch(kv_heads * a.rows * 2, &states);
  }
  if (!status.ok()) return status;
  const CacheOut out{.out = p.out.as<float>(),
                     .out_token = 0,
                     .out_head = p.out.stride[0],
                     .lse = nullptr,
                     .lse_head = 0,
                     .states = states,
                     .faults = context.faults(),
                     .check = ValueCheck::kCacheDecodePosition};
  status = AttendInTiles(p.cache.k.dtype, a, out, kv_heads, raw, context);
  if (!status.ok() || !books) return status;
  return KeepBooks(p, a, raw, states, context);
}

}  // namespace sinklora::kernels::cuda
