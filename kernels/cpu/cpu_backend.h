// The "cpu" backend: oneDNN for matrix products, Highway for the rest, one
// thread pool.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_CPU_BACKEND_H_
#define SINKLORA_KERNELS_CPU_CPU_BACKEND_H_

#include <memory>
#include <string>
#include <string_view>

#include "kernels/cpu/cpu_context.h"
#include "kernels/host/host_backend.h"

namespace sinklora::kernels {

class CpuBackend final : public HostBackend {
 public:
  // REQUIRES: num_threads >= 1.
  explicit CpuBackend(int num_threads);
  ~CpuBackend() override;

  std::string_view name() const override { return "cpu"; }
  std::string description() const override;

  Status Zero(void* device, int64_t size_bytes) override;

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

 private:
  std::unique_ptr<cpu::CpuContext> context_;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CPU_CPU_BACKEND_H_
