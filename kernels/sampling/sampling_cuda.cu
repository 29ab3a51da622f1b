// A block a row. Where cumulative weights reach a threshold is found by digits
// of the rank key, the highest first: three passes over the row, each a
// histogram of integers in shared memory.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/sampling/sampling_weight.h"

namespace sinklora::kernels::cuda {
namespace {

// What shuffles and atomics take; 64 bits.
using Weight = unsigned long long;

constexpr int kSampleThreads = 1024;
constexpr int kSampleWarps = kSampleThreads / kWarpThreads;
static_assert(kDigitBins == 2 * kSampleThreads);

struct Row {
  const float* logits;  // [vocab]
  int vocab;
  bool greedy;
  double factor;  // GapFactor
  int64_t top_k;
  double top_p, draw;
};

struct SampleShared {
  Weight bins[kDigitBins];
  Weight warps[kSampleWarps];
  Weight before;
  int digit;
};

// Inclusive sum over the lanes of a warp up to this one.
SINKLORA_DEVICE Weight LanesUpTo(Weight value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  for (int step = 1; step < kWarpThreads; step *= 2) {
    const Weight other = Shuffle(value, (lane - step) & (kWarpThreads - 1));
    if (lane >= step) value += other;
  }
  return value;
}

// Sum over the threads before this one; *all is that over all of them. Ends
// with a barrier.
SINKLORA_DEVICE Weight SumBefore(Weight own, SampleShared& s, Weight* all) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const Weight up_to = LanesUpTo(own);
  if (threadIdx.x % kWarpThreads == kWarpThreads - 1) s.warps[warp] = up_to;
  SyncThreads();
  Weight before = 0;
  Weight total = 0;
  for (int w = 0; w < kSampleWarps; ++w) {
    if (w == warp) before = total;
    total += s.warps[w];
  }
  *all = total;
  SyncThreads();
  return before + up_to - own;
}

SINKLORA_DEVICE Weight LargestOfAll(Weight value, SampleShared& s) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const Weight other = ShuffleXor(value, mask);
    if (other > value) value = other;
  }
  if (threadIdx.x % kWarpThreads == 0) {
    s.warps[threadIdx.x / kWarpThreads] = value;
  }
  SyncThreads();
  for (int w = 0; w < kSampleWarps; ++w) {
    if (s.warps[w] > value) value = s.warps[w];
  }
  SyncThreads();
  return value;
}

SINKLORA_DEVICE uint32_t KeyAt(const Row& row, int i) {
  return RankKey(BitsOfFloat(row.logits[i]));
}

SINKLORA_DEVICE Weight WeightOf(const Row& row, uint32_t top, uint32_t key) {
  const double gap = static_cast<double>(FloatOfBits(BitsOfRankKey(top))) -
                     static_cast<double>(FloatOfBits(BitsOfRankKey(key)));
  return SampleWeight(gap, row.factor);
}

// The key of the largest logit and the least id that has it; the id is what a
// bad row gives where it is one.
SINKLORA_DEVICE int BestOf(const Row& row, SampleShared& s, uint32_t* key) {
  Weight best = 0;
  Weight bad = 0;  // larger for lesser ids
  for (int i = static_cast<int>(threadIdx.x); i < row.vocab;
       i += kSampleThreads) {
    const uint32_t after = ~static_cast<uint32_t>(i);
    if (IsBadLogit(BitsOfFloat(row.logits[i]))) {
      if (after > bad) bad = after;
      continue;
    }
    const Weight own = static_cast<Weight>(KeyAt(row, i)) << 32 | after;
    if (own > best) best = own;
  }
  best = LargestOfAll(best, s);
  bad = LargestOfAll(bad, s);
  if (bad != 0) return -1 - static_cast<int>(~static_cast<uint32_t>(bad));
  *key = static_cast<uint32_t>(best >> 32);
  if (BitsOfRankKey(*key) == 0xff800000u) return -1;
  return static_cast<int>(~static_cast<uint32_t>(best));
}

// The logit at which the sum over the rank reaches a threshold.
struct Crossing {
  uint32_t key;
  Weight before;  // sum of all with larger keys
};

// Adds the row's values to the bins of a digit, those of the keys that begin
// like `known`. A run of values of one bin is added at once.
SINKLORA_DEVICE void FillBins(const Row& row, uint32_t top, bool counts,
                              uint32_t known, uint32_t fixed, int shift,
                              SampleShared& s) {
  for (int bin = static_cast<int>(threadIdx.x); bin < kDigitBins;
       bin += kSampleThreads) {
    s.bins[bin] = 0;
  }
  SyncThreads();
  Weight run = 0;
  uint32_t run_bin = 0;
  for (int i = static_cast<int>(threadIdx.x); i < row.vocab;
       i += kSampleThreads) {
    const uint32_t key = KeyAt(row, i);
    if ((key & fixed) != known) continue;
    const Weight value = counts ? 1 : WeightOf(row, top, key);
    const uint32_t bin = (key & ~fixed) >> shift;
    if (bin != run_bin) {
      if (run != 0) AtomicAdd(&s.bins[run_bin], run);
      run_bin = bin;
      run = 0;
    }
    run += value;
  }
  if (run != 0) AtomicAdd(&s.bins[run_bin], run);
  SyncThreads();
}

// REQUIRES: 1 <= threshold <= the sum of all values: weights, or 1 each with
// `counts`.
SINKLORA_DEVICE Crossing Reach(const Row& row, uint32_t top, bool counts,
                               Weight threshold, SampleShared& s) {
  Crossing out{0, 0};
  uint32_t fixed = 0;  // bits of the key that are known
  for (int shift = kFirstShift;; shift = NextShift(shift)) {
    FillBins(row, top, counts, out.key, fixed, shift, s);
    // A thread has two bins; the first thread those of the largest keys.
    const int high = kDigitBins - 1 - 2 * static_cast<int>(threadIdx.x);
    const Weight first = s.bins[high];
    const Weight both = first + s.bins[high - 1];
    Weight all;
    const Weight before = out.before + SumBefore(both, s, &all);
    if (before < threshold && threshold <= before + both) {
      const bool in_first = threshold <= before + first;
      s.digit = in_first ? high : high - 1;
      s.before = in_first ? before : before + first;
    }
    SyncThreads();
    out.key |= static_cast<uint32_t>(s.digit) << shift;
    out.before = s.before;
    fixed = ~0u << shift;
    SyncThreads();
    if (shift == 0) return out;
  }
}

// Sum of the weights of all whose key is above `above`.
SINKLORA_DEVICE Weight WeightAbove(const Row& row, uint32_t top, uint32_t above,
                                   SampleShared& s) {
  Weight own = 0;
  for (int i = static_cast<int>(threadIdx.x); i < row.vocab;
       i += kSampleThreads) {
    const uint32_t key = KeyAt(row, i);
    if (key > above) own += WeightOf(row, top, key);
  }
  Weight all;
  SumBefore(own, s, &all);
  return all;
}

// Writes the `nth` least id, from 1, of those that have the key.
SINKLORA_DEVICE void StoreNth(const Row& row, uint32_t key, Weight nth,
                              SampleShared& s, int32_t* id) {
  Weight seen = 0;
  for (int first = 0; first < row.vocab && seen < nth;
       first += kSampleThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const bool has = i < row.vocab && KeyAt(row, i) == key;
    Weight all;
    const Weight before = seen + SumBefore(has ? 1 : 0, s, &all);
    if (has && before + 1 == nth) *id = i;
    seen += all;
  }
}

SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kSampleThreads, 1)
    SampleKernel(const Row* rows, int32_t* ids) {
  SINKLORA_SHARED(SampleShared, s);
  const Row row = rows[blockIdx.x];
  int32_t* id = ids + blockIdx.x;
  uint32_t top = 0;
  const int best = BestOf(row, s, &top);
  if (best < 0 || row.greedy) {
    if (threadIdx.x == 0) *id = best;
    return;
  }
  Weight nucleus;
  if (row.top_k > 0 && row.top_k < row.vocab) {
    const auto kept = static_cast<Weight>(row.top_k);
    const Crossing last = Reach(row, top, true, kept, s);
    nucleus = WeightAbove(row, top, last.key, s) +
              (kept - last.before) * WeightOf(row, top, last.key);
  } else {
    nucleus = WeightAbove(row, top, 0, s);
  }
  if (row.top_p < 1) {
    const Weight least = NucleusThreshold(nucleus, row.top_p);
    const Crossing last = Reach(row, top, false, least, s);
    const Weight weight = WeightOf(row, top, last.key);
    nucleus = last.before + TiesToReach(least, last.before, weight) * weight;
  }
  const Weight drawn = DrawThreshold(nucleus, row.draw);
  const Crossing chosen = Reach(row, top, false, drawn, s);
  StoreNth(row, chosen.key,
           TiesToReach(drawn, chosen.before, WeightOf(row, top, chosen.key)), s,
           id);
}

}  // namespace

Status SampleTokensCuda(const SampleTokensParams& p, CudaContext& context) {
  if (p.rows.empty()) return OkStatus();
  std::vector<Row> host;
  host.reserve(p.rows.size());
  for (const SampleRow& row : p.rows) {
    const bool greedy = row.temperature == 0;
    host.push_back({.logits = row.logits.as<float>(),
                    .vocab = static_cast<int>(row.logits.shape[0]),
                    .greedy = greedy,
                    .factor = greedy ? 0.0 : GapFactor(row.temperature),
                    .top_k = row.top_k,
                    .top_p = row.top_p,
                    .draw = row.draw});
  }
  const auto count = static_cast<int64_t>(host.size());
  const int64_t row_bytes = count * static_cast<int64_t>(sizeof(Row));
  Row* rows = nullptr;
  int32_t* ids = nullptr;
  Status status = context.Scratch(count, &rows);
  if (status.ok()) status = context.Scratch(count, &ids);
  if (status.ok()) {
    status = context.CopyToDevice(host.data(), rows, row_bytes);
  }
  if (status.ok()) {
    status = Launch("sample_tokens", SampleKernel,
                    {.grid = dim3(static_cast<unsigned>(count)),
                     .block = dim3(kSampleThreads)},
                    context.stream(), rows, ids);
  }
  if (!status.ok()) return status;
  return context.CopyToHost(ids, p.ids,
                            count * static_cast<int64_t>(sizeof(int32_t)));
}

}  // namespace sinklora::kernels::cuda
