// GGUF, the file format of llama.cpp: a merged Hugging Face model directory
// written as one GGUF file with all that llama.cpp needs to run it, and such a
// file read back into a directory.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_H_
#define SINKLORA_COMMON_GGUF_GGUF_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

// How the matrices are stored. Vectors (norms, biases) are F32 in every type.
enum class GgufFileType { kF32, kF16, kBf16, kQ80 };

// "f32", "f16", "bf16", "q8_0", in either case; anything else is
// kInvalidArgument with the list.
absl::StatusOr<GgufFileType> ParseGgufFileType(std::string_view name);
std::string_view GgufFileTypeName(GgufFileType type);

// Writes the model of `model_directory` (config.json, safetensors, tokenizer)
// to `out_path`, which appears whole or not at all. Equal input gives equal
// bytes; memory is a few tensors, not the model. kInvalidArgument naming file
// and key or tensor for what llama.cpp would run differently or not at all: a
// tokenizer it has no equal of, NaN or infinite weights, values out of f16's
// range, rope_scaling it does not know.
absl::Status WriteGguf(const std::string& model_directory, GgufFileType type,
                       const std::string& out_path);

// Writes a complete model directory (config.json, generation_config.json,
// safetensors, tokenizer files) from a GGUF file of the architectures and
// tokenizers that WriteGguf writes, by whichever tool it was made. Matrices
// keep their type, bit by bit; Q8_0 becomes bf16. `out_directory` must not
// exist (kAlreadyExists) and appears whole or not at all. kInvalidArgument
// naming file and key or tensor for anything else, such as other quantized
// types.
absl::Status ImportGguf(const std::string& gguf_path,
                        const std::string& out_directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_H_
