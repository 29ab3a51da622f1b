// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/reference_backend.h"

#include <new>

#include "kernels/all_validate.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels {
namespace {

template <typename Params>
Status Checked(const Params& p, void (*op)(const Params&)) {
  if (Status status = Validate(p); !status.ok()) return status;
  try {
    op(p);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted,
                  "reference: no memory for scratch");
  }
  return OkStatus();
}

}  // namespace

Status ReferenceBackend::MatMul(const MatMulParams& p) {
  return Checked(p, reference::MatMul);
}

Status ReferenceBackend::Quantize(const QuantizeParams& p) {
  return Checked(p, reference::Quantize);
}

Status ReferenceBackend::QuantizedMatMul(const QuantizedMatMulParams& p) {
  return Checked(p, reference::QuantizedMatMul);
}

Status ReferenceBackend::DequantizeRows(const DequantizeRowsParams& p) {
  return Checked(p, reference::DequantizeRows);
}

Status ReferenceBackend::BiasForward(const BiasForwardParams& p) {
  return Checked(p, reference::BiasForward);
}

Status ReferenceBackend::BiasBackward(const BiasBackwardParams& p) {
  return Checked(p, reference::BiasBackward);
}

Status ReferenceBackend::RmsNormForward(const RmsNormForwardParams& p) {
  return Checked(p, reference::RmsNormForward);
}

Status ReferenceBackend::RmsNormBackward(const RmsNormBackwardParams& p) {
  return Checked(p, reference::RmsNormBackward);
}

Status ReferenceBackend::Rope(const RopeParams& p) {
  return Checked(p, reference::Rope);
}

Status ReferenceBackend::AttentionForward(const AttentionForwardParams& p) {
  return Checked(p, reference::AttentionForward);
}

Status ReferenceBackend::AttentionBackward(const AttentionBackwardParams& p) {
  return Checked(p, reference::AttentionBackward);
}

Status ReferenceBackend::SwiGluForward(const SwiGluForwardParams& p) {
  return Checked(p, reference::SwiGluForward);
}

Status ReferenceBackend::SwiGluBackward(const SwiGluBackwardParams& p) {
  return Checked(p, reference::SwiGluBackward);
}

Status ReferenceBackend::EmbeddingForward(const EmbeddingForwardParams& p) {
  return Checked(p, reference::EmbeddingForward);
}

Status ReferenceBackend::EmbeddingBackward(const EmbeddingBackwardParams& p) {
  return Checked(p, reference::EmbeddingBackward);
}

Status ReferenceBackend::LinearCrossEntropy(const LinearCrossEntropyParams& p) {
  return Checked(p, reference::LinearCrossEntropy);
}

Status ReferenceBackend::AdamW(const AdamWParams& p) {
  return Checked(p, reference::AdamW);
}

Status ReferenceBackend::SumSquares(const SumSquaresParams& p) {
  return Checked(p, reference::SumSquares);
}

Status ReferenceBackend::ZeroRows(const ZeroRowsParams& p) {
  return Checked(p, reference::ZeroRows);
}

Status ReferenceBackend::Scale(const ScaleParams& p) {
  return Checked(p, reference::Scale);
}

Status ReferenceBackend::ScaleColumns(const ScaleColumnsParams& p) {
  return Checked(p, reference::ScaleColumns);
}

Status ReferenceBackend::Add(const AddParams& p) {
  return Checked(p, reference::Add);
}

Status ReferenceBackend::Cast(const CastParams& p) {
  return Checked(p, reference::Cast);
}

Status ReferenceBackend::CacheWrite(const CacheWriteParams& p) {
  return Checked(p, reference::CacheWrite);
}

Status ReferenceBackend::CacheAttention(const CacheAttentionParams& p) {
  return Checked(p, reference::CacheAttention);
}

Status ReferenceBackend::CacheDecode(const CacheDecodeParams& p) {
  return Checked(p, reference::CacheDecode);
}

Status ReferenceBackend::CacheColumnSums(const CacheColumnSumsParams& p) {
  return Checked(p, reference::CacheColumnSums);
}

Status ReferenceBackend::CacheCompact(const CacheCompactParams& p) {
  return Checked(p, reference::CacheCompact);
}

Status ReferenceBackend::SampleTokens(const SampleTokensParams& p) {
  return Checked(p, reference::SampleTokens);
}

}  // namespace sinklora::kernels
