// The naive kernels, one function an op: plain loops, double accumulation, one
// thread. They are the oracle of the tests, so they follow the formulas of the
// contracts and nothing else. REQUIRES: params that Validate() accepts.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_REFERENCE_REFERENCE_OPS_H_
#define SINKLORA_KERNELS_REFERENCE_REFERENCE_OPS_H_

#include "kernels/backend.h"

namespace sinklora::kernels::reference {

void MatMul(const MatMulParams& p);
void Quantize(const QuantizeParams& p);
void QuantizedMatMul(const QuantizedMatMulParams& p);
void DequantizeRows(const DequantizeRowsParams& p);
void BiasForward(const BiasForwardParams& p);
void BiasBackward(const BiasBackwardParams& p);
void RmsNormForward(const RmsNormForwardParams& p);
void RmsNormBackward(const RmsNormBackwardParams& p);
void Rope(const RopeParams& p);
void AttentionForward(const AttentionForwardParams& p);
void AttentionBackward(const AttentionBackwardParams& p);
void SwiGluForward(const SwiGluForwardParams& p);
void SwiGluBackward(const SwiGluBackwardParams& p);
void EmbeddingForward(const EmbeddingForwardParams& p);
void EmbeddingBackward(const EmbeddingBackwardParams& p);
void LinearCrossEntropy(const LinearCrossEntropyParams& p);
void AdamW(const AdamWParams& p);
void SumSquares(const SumSquaresParams& p);
void ZeroRows(const ZeroRowsParams& p);
void Scale(const ScaleParams& p);
void ScaleColumns(const ScaleColumnsParams& p);
void Add(const AddParams& p);
void Cast(const CastParams& p);
void CacheWrite(const CacheWriteParams& p);
void CacheAttention(const CacheAttentionParams& p);
void CacheDecode(const CacheDecodeParams& p);
void CacheColumnSums(const CacheColumnSumsParams& p);
void CacheCompact(const CacheCompactParams& p);
void SampleTokens(const SampleTokensParams& p);

}  // namespace sinklora::kernels::reference

#endif  // SINKLORA_KERNELS_REFERENCE_REFERENCE_OPS_H_
