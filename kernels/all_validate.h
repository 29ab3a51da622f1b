// Every op's Validate(), for the backends.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ALL_VALIDATE_H_
#define SINKLORA_KERNELS_ALL_VALIDATE_H_

// IWYU pragma: begin_exports
#include "kernels/adamw/adamw_validate.h"
#include "kernels/attention/attention_validate.h"
#include "kernels/bias/bias_validate.h"
#include "kernels/cache_attention/cache_attention_validate.h"
#include "kernels/cache_decode/cache_decode_validate.h"
#include "kernels/elementwise/elementwise_validate.h"
#include "kernels/embedding/embedding_validate.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy_validate.h"
#include "kernels/matmul/matmul_validate.h"
#include "kernels/quantized_matmul/quantized_matmul_validate.h"
#include "kernels/repeat/repeat_validate.h"
#include "kernels/rms_norm/rms_norm_validate.h"
#include "kernels/rope/rope_validate.h"
#include "kernels/sampling/sampling_validate.h"
#include "kernels/swiglu/swiglu_validate.h"
// IWYU pragma: end_exports

#endif  // SINKLORA_KERNELS_ALL_VALIDATE_H_
