// Chooses the next token of each of some rows of logits.
//
// Rank: by descending logit, ties by ascending id; -0 equals +0. With
// temperature 0 the first of the rank is chosen. Else every token has a weight,
// an integer (sampling_weight.h):
//
//   weight = 2^40 * exp((logit - largest logit) / temperature), rounded down
//   kept = the first top_k of the rank; 0: all
//   nucleus = the shortest beginning of the rank that weighs at least top_p
//             times the weight of kept
//   chosen = the first of the rank that, with all before it, weighs more than
//            draw times the weight of the nucleus, rounded down
//
// Sums of integers have one value in any order, and weights come from
// operations that round alike everywhere: equal logits give equal tokens on
// every backend, for any number of threads and in a batch of any rows.
//
// Source: top-k (1805.04833), nucleus sampling (1904.09751).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_SAMPLING_SAMPLING_H_
#define SINKLORA_KERNELS_SAMPLING_SAMPLING_H_

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace sinklora::kernels {

// Most logits of a row: sums of weights must fit 63 bits.
inline constexpr int64_t kMaxSampledVocab = int64_t{1} << 22;

struct SampleRow {
  ConstTensorView logits;  // [vocab] f32; rows may differ in vocab
  double temperature = 0;  // >= 0; 0: greedy
  int64_t top_k = 0;       // >= 0; 0: all
  double top_p = 1;        // (0, 1]
  double draw = 0;         // [0, 1): the row's random number
};

struct SampleTokensParams {
  std::span<const SampleRow> rows;  // in host memory, free on return
  // [rows], in host memory: the chosen ids. Of a row with a logit that is NaN
  // or +Inf, -1 - the least id of one; of a row of nothing but -Inf, -1. Other
  // rows are chosen from all the same.
  int32_t* ids = nullptr;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_SAMPLING_SAMPLING_H_
