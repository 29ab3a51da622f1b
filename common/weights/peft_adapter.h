// PEFT LoRA adapters on disk: adapter_config.json + adapter_model.safetensors,
// with exactly PEFT's names and keys. Fully tuned embedding and norms travel in
// it as modules_to_save. The context and RoPE factor the adapter was tuned for
// are recorded in the safetensors metadata and, as extra keys PEFT ignores, in
// adapter_config.json.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_
#define SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/weights/llama_config.h"

namespace sinklora {

// A small dense f32 matrix or vector on the host.
struct HostTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // row-major
};

struct PeftAdapter {
  std::string base_model;  // base_model_name_or_path
  int64_t rank = 0;
  double lora_alpha = 0;                    // scale = lora_alpha / rank
  std::vector<std::string> target_modules;  // of q_proj ... down_proj
  int64_t context_tokens = 0;               // 0 when the file does not say
  double rope_factor = 1.0;  // relative to max_position_embeddings of the base

  // By the base's tensor name without ".weight", e.g.
  // "model.layers.0.self_attn.q_proj".
  std::map<std::string, HostTensor> lora_a;  // [rank, in]
  std::map<std::string, HostTensor> lora_b;  // [out, rank]
  // Fully tuned tensors by the base's tensor name, e.g.
  // "model.embed_tokens.weight".
  std::map<std::string, HostTensor> full;
};

// Reads and checks `directory` against its base: shapes, names, pairs of A and
// B. kInvalidArgument naming the key or tensor for what is not supported (DoRA,
// rsLoRA, rank_pattern, alpha_pattern, bias other than none, another
// peft_type).
absl::StatusOr<PeftAdapter> ReadPeftAdapter(const std::string& directory,
                                            const LlamaConfig& base);

// Writes both files into `directory` (made when absent). Tensors are stored as
// f32. Equal input gives equal bytes.
absl::Status WritePeftAdapter(const PeftAdapter& adapter,
                              const std::string& directory);

// Writes a Hugging Face directory: base + adapter merged in f32, stored bf16,
// config.json with the adapter's rope factor, tokenizer and generation files of
// the base carried over. kFailedPrecondition when the adapter does not fit.
absl::Status MergeAdapter(const std::string& base_directory,
                          const PeftAdapter& adapter,
                          const std::string& out_directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_
