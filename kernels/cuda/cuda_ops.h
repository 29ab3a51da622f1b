// The CUDA kernels, one function an op. Each queues its work on the context's
// stream and returns; results for the host (SumSquares, LinearCrossEntropy,
// SampleTokens) are waited for. Sums have a fixed order and no float is added
// atomically, so that equal inputs give equal bits. REQUIRES: params that
// Validate(p, kOnDevice) accepts. May throw std::bad_alloc; the backend
// catches.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_CUDA_OPS_H_
#define SINKLORA_KERNELS_CUDA_CUDA_OPS_H_

#include "kernels/backend.h"
#include "kernels/cuda/cuda_context.h"

namespace sinklora::kernels::cuda {

Status MatMulCuda(const MatMulParams& p, CudaContext& context);
Status QuantizeCuda(const QuantizeParams& p, CudaContext& context);
Status QuantizedMatMulCuda(const QuantizedMatMulParams& p,
                           CudaContext& context);
Status DequantizeRowsCuda(const DequantizeRowsParams& p, CudaContext& context);
Status BiasForwardCuda(const BiasForwardParams& p, CudaContext& context);
Status BiasBackwardCuda(const BiasBackwardParams& p, CudaContext& context);
Status RmsNormForwardCuda(const RmsNormForwardParams& p, CudaContext& context);
Status RmsNormBackwardCuda(const RmsNormBackwardParams& p,
                           CudaContext& context);
Status RopeCuda(const RopeParams& p, CudaContext& context);
Status AttentionForwardCuda(const AttentionForwardParams& p,
                            CudaContext& context);
Status AttentionBackwardCuda(const AttentionBackwardParams& p,
                             CudaContext& context);
Status SwiGluForwardCuda(const SwiGluForwardParams& p, CudaContext& context);
Status SwiGluBackwardCuda(const SwiGluBackwardParams& p, CudaContext& context);
Status EmbeddingForwardCuda(const EmbeddingForwardParams& p,
                            CudaContext& context);
Status EmbeddingBackwardCuda(const EmbeddingBackwardParams& p,
                             CudaContext& context);
Status LinearCrossEntropyCuda(const LinearCrossEntropyParams& p,
                              CudaContext& context);
Status AdamWCuda(const AdamWParams& p, CudaContext& context);
Status SumSquaresCuda(const SumSquaresParams& p, CudaContext& context);
Status ZeroRowsCuda(const ZeroRowsParams& p, CudaContext& context);
Status ScaleCuda(const ScaleParams& p, CudaContext& context);
Status ScaleColumnsCuda(const ScaleColumnsParams& p, CudaContext& context);
Status AddCuda(const AddParams& p, CudaContext& context);
Status CastCuda(const CastParams& p, CudaContext& context);
Status CacheWriteCuda(const CacheWriteParams& p, CudaContext& context);
Status CacheAttentionCuda(const CacheAttentionParams& p, CudaContext& context);
Status CacheDecodeCuda(const CacheDecodeParams& p, CudaContext& context);
Status CacheColumnSumsCuda(const CacheColumnSumsParams& p,
                           CudaContext& context);
Status CacheCompactCuda(const CacheCompactParams& p, CudaContext& context);
Status SampleTokensCuda(const SampleTokensParams& p, CudaContext& context);
// Asks the backend above for its ops, which so are within it.
Status RepeatCuda(const RepeatParams& p, CudaContext& context);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_CUDA_OPS_H_
