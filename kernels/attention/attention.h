// Training attention: one masked softmax attention for every pattern of the
// SinkLoRA and LongLoRA papers.
//
// Query head h at position i of a segment attends to key j of the same segment
// when (positions local to it)
//     j <= i  and  ( j < sink_tokens  or  group_h(i) == group_h(j) )
//             and  ( window == 0  or  i - j < window ),
//     group_h(p) = floor((p - lead + shift_h) / G)
// with shift_h = G/2 (integer division) for the last `shifted_heads` heads and
// 0 for the others, and a `lead` of 0 unless the document began elsewhere.
//   full:  G = segment length, shifted_heads 0, sink_tokens 0        short: G,
//   0, 0 S2:    G, heads/2, 0            SF: G, round((1 - return_ratio) *
//   heads/2), 4
// The window is that of a model with sliding-window attention (Mistral): what
// its layers never see, no pattern shows them, sinks included.
// Nothing wraps around: the first and last shifted groups are simply shorter.
// Segments (documents) never see each other, so a batch is just more segments.
// Key and value are indexed by kv head = h * kv_heads / heads; nothing is
// rolled, copied or repeated. Extra memory is O(tokens), not O(tokens * G).
// Source: LongLoRA (2309.12307) section 3.2, SinkLoRA (2406.05678) section 3.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace sinklora::kernels {

// One document of the packed batch: tokens [begin, begin + length), with its
// own group size.
struct AttentionSegment {
  int64_t begin = 0;
  int64_t length = 0;
  // G >= 1. From `length` on un-shifted heads have one group, from 2 * length
  // on shifted heads too: that is full attention.
  int64_t group_size = 0;
  // The first tokens of the segment that are keys and values alone: what a part
  // of a document sees of the parts before it. Groups are counted from the
  // token after them. Their queries are not read; output, lse and query
  // gradient are 0. 0, or sink_tokens <= lead <= length.
  int64_t lead = 0;
};

struct AttentionPattern {
  // Segments in ascending order, not overlapping; tokens in none of them get
  // output 0 and gradient 0.
  std::vector<AttentionSegment> segments;
  int64_t shifted_heads = 0;  // in [0, heads]: the last ones
  int64_t sink_tokens = 0;    // >= 0
  int64_t window = 0;         // tokens a query sees, itself included; 0: all
};

// Allowed (head, query, key) triples: the work an implementation should do.
// FLOPs: forward 4*D, backward 10*D each.
int64_t LivePairs(const AttentionPattern& pattern, int64_t heads);

// Strides of dimensions 0 and 1 are free, the last is 1. All f32. head_dim:
// multiple of 8 in [8, 256].
//
// `product_dtype` kBF16 allows matrix products of bf16 operands: queries
// (scaled or not), keys, values, probabilities, dout and score gradients are
// rounded to bf16, sums, softmax and lse stay f32. About twice as fast where
// the processor has such a product (CPU: cpu_isa avx512_bf16 and better);
// elsewhere products stay f32.
struct AttentionForwardParams {
  ConstTensorView q;  // [tokens, heads, head_dim], after RoPE
  ConstTensorView k;  // [tokens, kv_heads, head_dim], after RoPE
  ConstTensorView v;  // [tokens, kv_heads, head_dim]
  const AttentionPattern* pattern = nullptr;  // required
  float scale = 0.0f;                         // usually 1/sqrt(head_dim)
  TensorView out;                             // [tokens, heads, head_dim]
  TensorView lse{};  // [heads, tokens] f32: log-sum-exp of the scaled scores,
                     // for the backward pass; or empty
  DType product_dtype = DType::kF32;  // or kBF16
};

struct AttentionBackwardParams {
  ConstTensorView dout;  // [tokens, heads, head_dim]
  ConstTensorView q, k, v, out;
  ConstTensorView lse;  // [heads, tokens] of the forward pass
  const AttentionPattern* pattern = nullptr;
  float scale = 0.0f;
  TensorView dq;  // [tokens, heads, head_dim], overwritten
  TensorView dk;  // [tokens, kv_heads, head_dim], overwritten (summed over the
                  // heads of a group)
  TensorView dv;  // [tokens, kv_heads, head_dim], overwritten
  DType product_dtype = DType::kF32;  // or kBF16; that of the forward pass
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_H_
