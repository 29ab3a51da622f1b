// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <new>
#include <utility>

#include "kernels/all_validate.h"
#include "kernels/collective/collective_cuda.h"
#include "kernels/collective/collective_validate.h"
#include "kernels/cuda/cuda_ops.h"

namespace sinklora::kernels::cuda {
namespace {

template <typename Params>
Status ValidateShapes(const Params& p) {
  if constexpr (requires { Validate(p, Values::kOnDevice); }) {
    return Validate(p, Values::kOnDevice);
  } else {
    return Validate(p);
  }
}

Status ValidateRange(const char* op, const void* from, const void* to,
                     int64_t size_bytes) {
  Validator check(op);
  check.Value(size_bytes >= 0, "size_bytes", size_bytes, ">= 0");
  if (size_bytes > 0) check.NotNull("source", from).NotNull("target", to);
  return check.status();
}

std::string Gibibytes(int64_t bytes) {
  return std::to_string(bytes >> 30) + " GiB";
}

}  // namespace

CudaBackend::CudaBackend(std::unique_ptr<CudaContext> context,
                         std::unique_ptr<CommunicatorLibrary> library)
    : library_(std::move(library)),
      context_(std::move(context)),
      name_("cuda:" + std::to_string(context_->device().index)) {}

Status CudaBackend::Create(std::unique_ptr<Runtime> runtime,
                           std::unique_ptr<Gemm> gemm,
                           std::unique_ptr<CommunicatorLibrary> library,
                           std::unique_ptr<Backend>* out, int max_graphs) {
  auto context = std::make_unique<CudaContext>(std::move(runtime),
                                               std::move(gemm), max_graphs);
  if (Status status = context->Init(); !status.ok()) return status;
  out->reset(new CudaBackend(std::move(context), std::move(library)));
  return OkStatus();
}

std::string CudaBackend::description() const {
  const DeviceProperties& device = context_->device();
  return name_ + ", " + device.name + " (compute capability " +
         std::to_string(device.compute_major) + "." +
         std::to_string(device.compute_minor) + ", " +
         std::to_string(device.sm_count) + " multiprocessors, " +
         Gibibytes(device.memory_bytes) + "), products by " +
         context_->gemm().name() +
         (context_->recorder().max_graphs() == 0 ? ", no graphs" : "");
}

int64_t CudaBackend::memory_bytes() const {
  return context_->device().memory_bytes;
}

Status CudaBackend::Enter() { return context_->Enter(); }

Status CudaBackend::Leave(Status status) {
  return context_->Leave(std::move(status));
}

template <typename Params>
Status CudaBackend::Queue(const Params& p,
                          Status (*op)(const Params&, CudaContext&)) {
  if (Status status = ValidateShapes(p); !status.ok()) return status;
  if (Status status = Enter(); !status.ok()) return Leave(std::move(status));
  try {
    context_->BeginOp();
    return Leave(op(p, *context_));
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted,
                  name_ + ": no host memory for the plan of an op");
  }
}

Status CudaBackend::Allocate(int64_t size_bytes, Buffer* out) {
  Validator check("allocate");
  check.Value(size_bytes >= 0, "size_bytes", size_bytes, ">= 0");
  if (!check.ok()) return check.status();
  if (Status status = Enter(); !status.ok()) return Leave(std::move(status));
  void* data = nullptr;
  Status status = Leave(
      context_->runtime().Allocate(std::max<int64_t>(1, size_bytes), &data));
  if (!status.ok()) return status;
  allocated_bytes_ += size_bytes;
  peak_bytes_ = std::max(peak_bytes_, allocated_bytes_);
  *out = Buffer(this, data, size_bytes);
  return status;
}

void CudaBackend::Free(void* data, int64_t size_bytes) {
  allocated_bytes_ -= size_bytes;
  // An error shows in the next call; the memory of a lost device is gone.
  if (Enter().ok()) context_->Free(data);
}

Status CudaBackend::CopyToDevice(const void* host, void* device,
                                 int64_t size_bytes) {
  Status status = ValidateRange("copy_to_device", host, device, size_bytes);
  if (!status.ok()) return status;
  status = Enter();
  if (status.ok()) status = context_->CopyToDevice(host, device, size_bytes);
  return Leave(std::move(status));
}

Status CudaBackend::CopyToHost(const void* device, void* host,
                               int64_t size_bytes) {
  Status status = ValidateRange("copy_to_host", device, host, size_bytes);
  if (!status.ok()) return status;
  status = Enter();
  if (status.ok()) status = context_->CopyToHost(device, host, size_bytes);
  return Leave(std::move(status));
}

Status CudaBackend::Zero(void* device, int64_t size_bytes) {
  Status status = ValidateRange("zero", device, device, size_bytes);
  if (!status.ok() || size_bytes == 0) return status;
  status = Enter();
  if (status.ok()) status = context_->runtime().Zero(device, size_bytes);
  return Leave(std::move(status));
}

Status CudaBackend::MakeCollectiveId(CollectiveId* out) {
  Status status = Enter();
  if (status.ok()) status = library_->MakeId(out);
  return Leave(std::move(status));
}

Status CudaBackend::JoinCollective(const JoinCollectiveParams& p,
                                   std::unique_ptr<Collective>* out) {
  if (Status status = Validate(p); !status.ok()) return status;
  if (Status status = Enter(); !status.ok()) return Leave(std::move(status));
  return CudaCollective::Join(p, library_.get(), context_.get(), out);
}

Status CudaBackend::MatMul(const MatMulParams& p) {
  return Queue(p, MatMulCuda);
}

Status CudaBackend::Quantize(const QuantizeParams& p) {
  return Queue(p, QuantizeCuda);
}

Status CudaBackend::QuantizedMatMul(const QuantizedMatMulParams& p) {
  return Queue(p, QuantizedMatMulCuda);
}

Status CudaBackend::DequantizeRows(const DequantizeRowsParams& p) {
  return Queue(p, DequantizeRowsCuda);
}

Status CudaBackend::BiasForward(const BiasForwardParams& p) {
  return Queue(p, BiasForwardCuda);
}

Status CudaBackend::BiasBackward(const BiasBackwardParams& p) {
  return Queue(p, BiasBackwardCuda);
}

Status CudaBackend::RmsNormForward(const RmsNormForwardParams& p) {
  return Queue(p, RmsNormForwardCuda);
}

Status CudaBackend::RmsNormBackward(const RmsNormBackwardParams& p) {
  return Queue(p, RmsNormBackwardCuda);
}

Status CudaBackend::Rope(const RopeParams& p) { return Queue(p, RopeCuda); }

Status CudaBackend::AttentionForward(const AttentionForwardParams& p) {
  return Queue(p, AttentionForwardCuda);
}

Status CudaBackend::AttentionBackward(const AttentionBackwardParams& p) {
  return Queue(p, AttentionBackwardCuda);
}

Status CudaBackend::SwiGluForward(const SwiGluForwardParams& p) {
  return Queue(p, SwiGluForwardCuda);
}

Status CudaBackend::SwiGluBackward(const SwiGluBackwardParams& p) {
  return Queue(p, SwiGluBackwardCuda);
}

Status CudaBackend::EmbeddingForward(const EmbeddingForwardParams& p) {
  return Queue(p, EmbeddingForwardCuda);
}

Status CudaBackend::EmbeddingBackward(const EmbeddingBackwardParams& p) {
  return Queue(p, EmbeddingBackwardCuda);
}

Status CudaBackend::LinearCrossEntropy(const LinearCrossEntropyParams& p) {
  return Queue(p, LinearCrossEntropyCuda);
}

Status CudaBackend::AdamW(const AdamWParams& p) { return Queue(p, AdamWCuda); }

Status CudaBackend::SumSquares(const SumSquaresParams& p) {
  return Queue(p, SumSquaresCuda);
}

Status CudaBackend::ZeroRows(const ZeroRowsParams& p) {
  return Queue(p, ZeroRowsCuda);
}

Status CudaBackend::Scale(const ScaleParams& p) { return Queue(p, ScaleCuda); }

Status CudaBackend::ScaleColumns(const ScaleColumnsParams& p) {
  return Queue(p, ScaleColumnsCuda);
}

Status CudaBackend::Add(const AddParams& p) { return Queue(p, AddCuda); }

Status CudaBackend::Cast(const CastParams& p) { return Queue(p, CastCuda); }

Status CudaBackend::CacheWrite(const CacheWriteParams& p) {
  return Queue(p, CacheWriteCuda);
}

Status CudaBackend::CacheAttention(const CacheAttentionParams& p) {
  return Queue(p, CacheAttentionCuda);
}

Status CudaBackend::CacheDecode(const CacheDecodeParams& p) {
  return Queue(p, CacheDecodeCuda);
}

Status CudaBackend::CacheColumnSums(const CacheColumnSumsParams& p) {
  return Queue(p, CacheColumnSumsCuda);
}

Status CudaBackend::CacheCompact(const CacheCompactParams& p) {
  return Queue(p, CacheCompactCuda);
}

Status CudaBackend::SampleTokens(const SampleTokensParams& p) {
  return Queue(p, SampleTokensCuda);
}

Status CudaBackend::Repeat(const RepeatParams& p) {
  return Queue(p, RepeatCuda);
}

}  // namespace sinklora::kernels::cuda
