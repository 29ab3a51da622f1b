// A CUDA device as a Backend: queues kernels on one stream of it.
//
// Ops return as soon as they are queued; copies and results for the host wait.
// Values that only the device can read (ids, positions, slots) are checked
// there and reported as kInvalidArgument by the next call that waits; see
// device_faults.h. After an error of the device every call returns that error:
// what it holds is lost.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_CUDA_BACKEND_H_
#define SINKLORA_KERNELS_CUDA_CUDA_BACKEND_H_

#include <memory>
#include <string>
#include <string_view>

#include "kernels/backend.h"
#include "kernels/cuda/communicator.h"
#include "kernels/cuda/cuda_context.h"

namespace sinklora::kernels::cuda {

class CudaBackend final : public Backend {
 public:
  // `max_graphs` as Recorder's.
  static Status Create(std::unique_ptr<Runtime> runtime,
                       std::unique_ptr<Gemm> gemm,
                       std::unique_ptr<CommunicatorLibrary> library,
                       std::unique_ptr<Backend>* out,
                       int max_graphs = Recorder::kMaxGraphs);

  std::string_view name() const override { return name_; }  // "cuda:0"
  std::string description() const override;

  Status Allocate(int64_t size_bytes, Buffer* out) override;
  Status CopyToDevice(const void* host, void* device,
                      int64_t size_bytes) override;
  Status CopyToHost(const void* device, void* host,
                    int64_t size_bytes) override;
  Status Zero(void* device, int64_t size_bytes) override;
  int64_t memory_bytes() const override;
  int64_t allocated_bytes() const override { return allocated_bytes_; }
  int64_t peak_bytes() const override { return peak_bytes_; }
  void ResetPeak() override { peak_bytes_ = allocated_bytes_; }

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

  Status Repeat(const RepeatParams& p) override;
  RepeatCounts repeat_counts() const override {
    return context_->recorder().counts();
  }
  Status repeat_refusal() const override {
    return context_->recorder().refusal();
  }

  Status MakeCollectiveId(CollectiveId* out) override;
  Status JoinCollective(const JoinCollectiveParams& p,
                        std::unique_ptr<Collective>* out) override;

 protected:
  void Free(void* data, int64_t size_bytes) override;

 private:
  CudaBackend(std::unique_ptr<CudaContext> context,
              std::unique_ptr<CommunicatorLibrary> library);

  template <typename Params>
  Status Queue(const Params& p, Status (*op)(const Params&, CudaContext&));
  // As CudaContext's.
  Status Enter();
  Status Leave(Status status);

  const std::unique_ptr<CommunicatorLibrary> library_;
  const std::unique_ptr<CudaContext> context_;
  const std::string name_;
  int64_t allocated_bytes_ = 0;
  int64_t peak_bytes_ = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_CUDA_BACKEND_H_
