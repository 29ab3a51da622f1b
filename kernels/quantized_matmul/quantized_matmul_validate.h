// Checks of quantized_matmul params against the contract of quantized_matmul.h,
// shared by every backend. Reads the params, the ids and, of a matrix to pack,
// all weights; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_VALIDATE_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_VALIDATE_H_

#include <string>

#include "kernels/quantized_matmul/quantized_matmul.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

// The checks of a packed matrix, for the ops that take one.
void CheckQuantizedMatrix(const std::string& field, const QuantizedMatrix& m,
                          Validator* check);

Status Validate(const QuantizeParams& p, Values values = Values::kOnHost);
Status Validate(const QuantizedMatMulParams& p);
Status Validate(const DequantizeRowsParams& p, Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_VALIDATE_H_
