// Checks of matmul params against the contract of matmul.h, shared by every
// backend. Reads nothing but the params and the i32 tensors whose values the
// contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_MATMUL_VALIDATE_H_
#define SINKLORA_KERNELS_MATMUL_MATMUL_VALIDATE_H_

#include "kernels/matmul/matmul.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const MatMulParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_MATMUL_MATMUL_VALIDATE_H_
