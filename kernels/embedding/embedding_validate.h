// Checks of embedding params against the contract of embedding.h, shared by
// every backend. Reads nothing but the params and the i32 tensors whose values
// the contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_EMBEDDING_EMBEDDING_VALIDATE_H_
#define SINKLORA_KERNELS_EMBEDDING_EMBEDDING_VALIDATE_H_

#include "kernels/embedding/embedding.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const EmbeddingForwardParams& p,
                Values values = Values::kOnHost);
Status Validate(const EmbeddingBackwardParams& p,
                Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_EMBEDDING_EMBEDDING_VALIDATE_H_
