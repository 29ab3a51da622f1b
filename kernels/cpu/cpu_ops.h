// The fast CPU kernels, one function an op. Work is cut into tasks by shape
// alone and every task writes memory of its own, so results have the same bits
// for any number of threads. May throw std::bad_alloc or dnnl::error; the
// backend catches. REQUIRES: params that Validate() accepts.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_CPU_OPS_H_
#define SINKLORA_KERNELS_CPU_CPU_OPS_H_

#include "kernels/backend.h"
#include "kernels/cpu/cpu_context.h"

namespace sinklora::kernels::cpu {

void MatMul(const MatMulParams& p, CpuContext& context);
void Quantize(const QuantizeParams& p, CpuContext& context);
void QuantizedMatMul(const QuantizedMatMulParams& p, CpuContext& context);
void DequantizeRows(const DequantizeRowsParams& p, CpuContext& context);
void BiasForward(const BiasForwardParams& p, CpuContext& context);
void BiasBackward(const BiasBackwardParams& p, CpuContext& context);
void RmsNormForward(const RmsNormForwardParams& p, CpuContext& context);
void RmsNormBackward(const RmsNormBackwardParams& p, CpuContext& context);
void Rope(const RopeParams& p, CpuContext& context);
void AttentionForward(const AttentionForwardParams& p, CpuContext& context);
void AttentionBackward(const AttentionBackwardParams& p, CpuContext& context);
void SwiGluForward(const SwiGluForwardParams& p, CpuContext& context);
void SwiGluBackward(const SwiGluBackwardParams& p, CpuContext& context);
void EmbeddingForward(const EmbeddingForwardParams& p, CpuContext& context);
void EmbeddingBackward(const EmbeddingBackwardParams& p, CpuContext& context);
void LinearCrossEntropy(const LinearCrossEntropyParams& p, CpuContext& context);
void AdamW(const AdamWParams& p, CpuContext& context);
void SumSquares(const SumSquaresParams& p, CpuContext& context);
void ZeroRows(const ZeroRowsParams& p, CpuContext& context);
void Scale(const ScaleParams& p, CpuContext& context);
void ScaleColumns(const ScaleColumnsParams& p, CpuContext& context);
void Add(const AddParams& p, CpuContext& context);
void Cast(const CastParams& p, CpuContext& context);
void CacheWrite(const CacheWriteParams& p, CpuContext& context);
void CacheAttention(const CacheAttentionParams& p, CpuContext& context);
void CacheDecode(const CacheDecodeParams& p, CpuContext& context);
void CacheColumnSums(const CacheColumnSumsParams& p, CpuContext& context);
void CacheCompact(const CacheCompactParams& p, CpuContext& context);
void SampleTokens(const SampleTokensParams& p, CpuContext& context);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_CPU_OPS_H_
