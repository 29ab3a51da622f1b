// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantized_matmul/quantized_matmul_validate.h"

#include <cmath>
#include <cstdint>
#include <string>

#include "kernels/validator.h"

namespace sinklora::kernels {
namespace {

constexpr int64_t kAlignmentBytes = 64;

void CheckAligned(const std::string& field, const void* data,
                  Validator* check) {
  check->NotNull(field, data);
  const auto past =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % kAlignmentBytes);
  check->Value(past == 0, field + " address past a multiple of 64", past, "0");
}

// Whether all exponents are below the one of Inf and NaN. No early exit, so
// that it runs at the speed of memory.
bool AllFinite(const void* row, DType dtype, int64_t n) {
  uint32_t bad = 0;
  if (dtype == DType::kBF16) {
    const auto* bits = static_cast<const uint16_t*>(row);
    for (int64_t i = 0; i < n; ++i) bad |= (bits[i] & 0x7f80u) == 0x7f80u;
  } else {
    const auto* bits = static_cast<const uint32_t*>(row);
    for (int64_t i = 0; i < n; ++i) {
      bad |= (bits[i] & 0x7f800000u) == 0x7f800000u;
    }
  }
  return bad == 0;
}

void CheckFinite(const ConstTensorView& w, Validator* check) {
  for (int64_t r = 0; r < w.shape[0]; ++r) {
    const ConstTensorView row = w.Rows(r, 1);
    if (AllFinite(row.data, w.dtype, w.shape[1])) continue;
    for (int64_t c = 0; c < w.shape[1]; ++c) {
      const float value = w.dtype == DType::kBF16
                              ? FromBf16(row.as<bf16_t>()[c])
                              : row.as<float>()[c];
      check->Value(
          std::isfinite(value),
          "weight[" + std::to_string(r) + "][" + std::to_string(c) + "]",
          double{value}, "finite");
    }
  }
}

}  // namespace

void CheckQuantizedMatrix(const std::string& field, const QuantizedMatrix& m,
                          Validator* check) {
  check->Value(
      m.format == QuantizedFormat::kInt8 || m.format == QuantizedFormat::kInt4,
      field + ".format", static_cast<int64_t>(m.format), "kInt8 or kInt4");
  check->Value(m.rows >= 0, field + ".rows", m.rows, ">= 0");
  check->Value(m.cols >= 0, field + ".cols", m.cols, ">= 0");
  if (m.rows > 0 && m.cols > 0) CheckAligned(field + ".data", m.data, check);
}

Status Validate(const QuantizeParams& p, Values values) {
  Validator check("quantize", values);
  check.Tensor("weight", p.weight, kFloat, {kAny, kAny})
      .Value(p.format == QuantizedFormat::kInt8 ||
                 p.format == QuantizedFormat::kInt4,
             "format", static_cast<int64_t>(p.format), "kInt8 or kInt4");
  if (!check.ok()) return check.status();
  if (p.weight.num_elements() > 0) CheckAligned("out", p.out, &check);
  if (check.may_read()) CheckFinite(p.weight, &check);
  return check.status();
}

Status Validate(const QuantizedMatMulParams& p) {
  Validator check("quantized_matmul");
  CheckQuantizedMatrix("b", p.b, &check);
  return check.Tensor("a", p.a, kF32, {kAny, {p.b.cols, "cols of b"}})
      .Tensor("out", p.out, kF32,
              {{p.a.shape[0], "rows of a"}, {p.b.rows, "rows of b"}})
      .NoOverlap("out", p.out, "a", p.a)
      .Value(p.products == DType::kF32 || p.products == DType::kBF16,
             "products", static_cast<int64_t>(p.products), "f32 or bf16")
      .status();
}

Status Validate(const DequantizeRowsParams& p, Values values) {
  Validator check("dequantize_rows", values);
  CheckQuantizedMatrix("matrix", p.matrix, &check);
  return check.Tensor("ids", p.ids, kI32, {kAny})
      .Range("ids", p.ids, 0, p.matrix.rows)
      .Tensor("out", p.out, kF32,
              {{p.ids.shape[0], "ids"}, {p.matrix.cols, "cols of matrix"}})
      .status();
}

}  // namespace sinklora::kernels
