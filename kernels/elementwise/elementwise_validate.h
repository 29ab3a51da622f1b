// Checks of elementwise params against the contract of elementwise.h, shared by
// every backend. Reads nothing but the params and the i32 tensors whose values
// the contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_VALIDATE_H_
#define SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_VALIDATE_H_

#include "kernels/elementwise/elementwise.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const SumSquaresParams& p, Values values = Values::kOnHost);
Status Validate(const ZeroRowsParams& p, Values values = Values::kOnHost);
Status Validate(const ScaleParams& p);
Status Validate(const ScaleColumnsParams& p);
Status Validate(const AddParams& p);
Status Validate(const CastParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_VALIDATE_H_
