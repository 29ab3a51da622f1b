// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <cstring>
#include <exception>
#include <new>

#include "kernels/all_validate.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_ops.h"

namespace sinklora::kernels {
namespace {

// Freed blocks kept for the next step; see HostAllocator.
constexpr int64_t kMaxPooledBytes = int64_t{1} << 30;
// Zeros that are worth waking a thread for.
constexpr int64_t kZeroBlockBytes = int64_t{1} << 20;

// Validates, runs, and turns what oneDNN or an allocation throws into a Status.
template <typename Params>
Status Guarded(const Params& p, void (*op)(const Params&, cpu::CpuContext&),
               cpu::CpuContext& context) {
  if (Status status = Validate(p); !status.ok()) return status;
  try {
    op(p, context);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "cpu: no memory for scratch");
  } catch (const std::exception& e) {
    return Status(StatusCode::kInternal, std::string("cpu: ") + e.what());
  }
  return OkStatus();
}

}  // namespace

CpuBackend::CpuBackend(int num_threads)
    : HostBackend(kMaxPooledBytes),
      context_(std::make_unique<cpu::CpuContext>(num_threads)) {}

CpuBackend::~CpuBackend() = default;

std::string CpuBackend::description() const {
  const int threads = context_->pool.num_threads();
  return "cpu, " + std::to_string(threads) +
         (threads == 1 ? " thread, " : " threads, ") +
         std::string(cpu::NameOf(cpu::ActiveCpuIsa())) + " (Highway " +
         cpu::HighwayTargetName() + "), " +
         (context_->gemm.has_bf16() ? "bf16 products" : "f32 products");
}

Status CpuBackend::Zero(void* device, int64_t size_bytes) {
  // Small ones, and what it refuses.
  if (size_bytes <= kZeroBlockBytes || device == nullptr) {
    return HostBackend::Zero(device, size_bytes);
  }
  auto* bytes = static_cast<char*>(device);
  cpu::ParallelBlocks(context_->pool, size_bytes, kZeroBlockBytes,
                      [&](int64_t begin, int64_t end, int) {
                        std::memset(bytes + begin, 0, end - begin);
                      });
  return OkStatus();
}

Status CpuBackend::MatMul(const MatMulParams& p) {
  return Guarded(p, cpu::MatMul, *context_);
}

Status CpuBackend::Quantize(const QuantizeParams& p) {
  return Guarded(p, cpu::Quantize, *context_);
}

Status CpuBackend::QuantizedMatMul(const QuantizedMatMulParams& p) {
  return Guarded(p, cpu::QuantizedMatMul, *context_);
}

Status CpuBackend::DequantizeRows(const DequantizeRowsParams& p) {
  return Guarded(p, cpu::DequantizeRows, *context_);
}

Status CpuBackend::BiasForward(const BiasForwardParams& p) {
  return Guarded(p, cpu::BiasForward, *context_);
}

Status CpuBackend::BiasBackward(const BiasBackwardParams& p) {
  return Guarded(p, cpu::BiasBackward, *context_);
}

Status CpuBackend::RmsNormForward(const RmsNormForwardParams& p) {
  return Guarded(p, cpu::RmsNormForward, *context_);
}

Status CpuBackend::RmsNormBackward(const RmsNormBackwardParams& p) {
  return Guarded(p, cpu::RmsNormBackward, *context_);
}

Status CpuBackend::Rope(const RopeParams& p) {
  return Guarded(p, cpu::Rope, *context_);
}

Status CpuBackend::AttentionForward(const AttentionForwardParams& p) {
  return Guarded(p, cpu::AttentionForward, *context_);
}

Status CpuBackend::AttentionBackward(const AttentionBackwardParams& p) {
  return Guarded(p, cpu::AttentionBackward, *context_);
}

Status CpuBackend::SwiGluForward(const SwiGluForwardParams& p) {
  return Guarded(p, cpu::SwiGluForward, *context_);
}

Status CpuBackend::SwiGluBackward(const SwiGluBackwardParams& p) {
  return Guarded(p, cpu::SwiGluBackward, *context_);
}

Status CpuBackend::EmbeddingForward(const EmbeddingForwardParams& p) {
  return Guarded(p, cpu::EmbeddingForward, *context_);
}

Status CpuBackend::EmbeddingBackward(const EmbeddingBackwardParams& p) {
  return Guarded(p, cpu::EmbeddingBackward, *context_);
}

Status CpuBackend::LinearCrossEntropy(const LinearCrossEntropyParams& p) {
  return Guarded(p, cpu::LinearCrossEntropy, *context_);
}

Status CpuBackend::AdamW(const AdamWParams& p) {
  return Guarded(p, cpu::AdamW, *context_);
}

Status CpuBackend::SumSquares(const SumSquaresParams& p) {
  return Guarded(p, cpu::SumSquares, *context_);
}

Status CpuBackend::ZeroRows(const ZeroRowsParams& p) {
  return Guarded(p, cpu::ZeroRows, *context_);
}

Status CpuBackend::Scale(const ScaleParams& p) {
  return Guarded(p, cpu::Scale, *context_);
}

Status CpuBackend::ScaleColumns(const ScaleColumnsParams& p) {
  return Guarded(p, cpu::ScaleColumns, *context_);
}

Status CpuBackend::Add(const AddParams& p) {
  return Guarded(p, cpu::Add, *context_);
}

Status CpuBackend::Cast(const CastParams& p) {
  return Guarded(p, cpu::Cast, *context_);
}

Status CpuBackend::CacheWrite(const CacheWriteParams& p) {
  return Guarded(p, cpu::CacheWrite, *context_);
}

Status CpuBackend::CacheAttention(const CacheAttentionParams& p) {
  return Guarded(p, cpu::CacheAttention, *context_);
}

Status CpuBackend::CacheDecode(const CacheDecodeParams& p) {
  return Guarded(p, cpu::CacheDecode, *context_);
}

Status CpuBackend::CacheColumnSums(const CacheColumnSumsParams& p) {
  return Guarded(p, cpu::CacheColumnSums, *context_);
}

Status CpuBackend::CacheCompact(const CacheCompactParams& p) {
  return Guarded(p, cpu::CacheCompact, *context_);
}

Status CpuBackend::SampleTokens(const SampleTokensParams& p) {
  return Guarded(p, cpu::SampleTokens, *context_);
}

}  // namespace sinklora::kernels
