// config.json in GGUF metadata.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_MODEL_METADATA_H_
#define SINKLORA_COMMON_GGUF_GGUF_MODEL_METADATA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/gguf/gguf.h"
#include "common/gguf/gguf_file.h"
#include "common/gguf/gguf_writer.h"
#include "common/weights/llama_config.h"

namespace sinklora {

// How the matrices of a file of this type are stored.
GgmlType MatrixType(GgufFileType type);

// llama.cpp's name of the architecture: llama (for mistral, too), qwen2, qwen3.
absl::StatusOr<std::string> GgufArchitecture(const LlamaConfig& config,
                                             const std::string& what);

// Adds general.* and the architecture's keys. kInvalidArgument starting with
// `what` for a model that llama.cpp would run differently.
//
// llama.cpp has no sliding window for these architectures. Up to the window's
// length full attention is the same, so that is the context_length written.
absl::Status AddModelMetadata(const LlamaConfig& config,
                              const std::string& name, GgufFileType type,
                              const std::string& what, GgufHeader* header);

// The reverse, for files of any tool: what metadata and the names of the
// tensors say, but for the begin and end token. kInvalidArgument naming file
// and key for what is missing or not supported.
absl::StatusOr<LlamaConfig> ParseModelMetadata(const GgufFile& file);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_MODEL_METADATA_H_
