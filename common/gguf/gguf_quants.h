// Elements of GGUF tensors from and to f32.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_QUANTS_H_
#define SINKLORA_COMMON_GGUF_GGUF_QUANTS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/gguf/gguf_format.h"

namespace sinklora {

// Appends `values` as `type`, bit for bit what ggml's reference code
// (quantize_row_q8_0_ref, fp32 to fp16 and bf16, ties to even) makes of them.
// kInvalidArgument starting with `what` for a value that is NaN or infinite or
// becomes infinite in `type`. REQUIRES: a multiple of the type's block.
absl::Status EncodeGguf(std::span<const float> values, GgmlType type,
                        const std::string& what, std::string* out);

// The reverse for Q8_0: 32 values for each 34 bytes. kInvalidArgument starting
// with `what` for a scale that is NaN or infinite. REQUIRES: whole blocks, and
// room for their values in `out`.
absl::Status DecodeQ80(std::string_view bytes, const std::string& what,
                       float* out);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_QUANTS_H_
