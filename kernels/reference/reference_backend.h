// The "reference" backend: naive loops in double on one thread. Slow; it exists
// to be right.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_REFERENCE_REFERENCE_BACKEND_H_
#define SINKLORA_KERNELS_REFERENCE_REFERENCE_BACKEND_H_

#include <string>
#include <string_view>

#include "kernels/host/host_backend.h"

namespace sinklora::kernels {

class ReferenceBackend final : public HostBackend {
 public:
  ReferenceBackend() : HostBackend(/*max_pooled_bytes=*/0) {}

  std::string_view name() const override { return "reference"; }
  std::string description() const override {
    return "reference, 1 thread, double accumulation";
  }

  Status MatMul(const MatMulParams& p) override;
  Status Quantize(const QuantizeParams& p) override;
  Status QuantizedMatMul(const QuantizedMatMulParams& p) override;
  Status DequantizeRows(const DequantizeRowsParams& p) override;
  Status BiasForward(const BiasForwardParams& p) override;
  Status BiasBackward(const BiasBackwardParams& p) override;
  Status RmsNormForward(const RmsNormForwardParams& p) override;
  Status RmsNormBackward(const RmsNormBackwardParams& p) override;
  Status Rope(const RopeParams& p) override;
  Status AttentionForward(const AttentionForwardParams& p) override;
  Status AttentionBackward(const AttentionBackwardParams& p) override;
  Status SwiGluForward(const SwiGluForwardParams& p) override;
  Status SwiGluBackward(const SwiGluBackwardParams& p) override;
  Status EmbeddingForward(const EmbeddingForwardParams& p) override;
  Status EmbeddingBackward(const EmbeddingBackwardParams& p) override;
  Status LinearCrossEntropy(const LinearCrossEntropyParams& p) override;
  Status AdamW(const AdamWParams& p) override;
  Status SumSquares(const SumSquaresParams& p) override;
  Status ZeroRows(const ZeroRowsParams& p) override;
  Status Scale(const ScaleParams& p) override;
  Status ScaleColumns(const ScaleColumnsParams& p) override;
  Status Add(const AddParams& p) override;
  Status Cast(const CastParams& p) override;
  Status CacheWrite(const CacheWriteParams& p) override;
  Status CacheAttention(const CacheAttentionParams& p) override;
  Status CacheDecode(const CacheDecodeParams& p) override;
  Status CacheColumnSums(const CacheColumnSumsParams& p) override;
  Status CacheCompact(const CacheCompactParams& p) override;
  Status SampleTokens(const SampleTokensParams& p) override;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_REFERENCE_REFERENCE_BACKEND_H_
