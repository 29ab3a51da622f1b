// Zeros for the tokens without queries: those that no segment of a pattern
// covers, and the leads of segments.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_ZERO_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_ZERO_H_

#include "kernels/attention/attention.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// x is [tokens, heads, head_dim] f32.
void ZeroOutside(const AttentionPattern& pattern, const TensorView& x);

// lse is [heads, tokens] f32.
void ZeroLseOutside(const AttentionPattern& pattern, const TensorView& lse);

// Tokens [begin, end) of x, [tokens, heads, head_dim] f32.
void ZeroTokens(const TensorView& x, int64_t begin, int64_t end);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_ZERO_H_
