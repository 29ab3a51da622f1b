// An adapter turned into what other programs load. The three exports:
//   - WritePeftAdapter (peft_adapter.h): LoRA and the tuned modules, for PEFT;
//   - WriteSplitAdapter: an adapter with LoRA alone, and the base with the
//     tuned embedding, norms and head in it, for servers that take no
//     modules_to_save (vLLM);
//   - MergeAdapter: one Hugging Face directory.
//
// Context: config.json keeps the base's max_position_embeddings and gets
// rope_scaling with the adapter's factor; their product is the new context.
// That is the form transformers documents, vLLM multiplies by itself (it sizes
// its RoPE tables with the product, so that writing the product would count the
// factor twice), and LlamaConfig::context_tokens() reads. Programs that cut
// text at the tokenizer's model_max_length find the new context in
// tokenizer_config.json, where the base's is smaller.
//
// Weights are computed in f32 and stored in bf16, a block of rows at a time: no
// tensor is held whole. Shards of 5 GB with an index, as transformers writes
// them. Tokenizer and generation files are carried over.
//
// Thread-safe (functions only). model/merge_check.h checks what they wrote.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_ADAPTER_EXPORT_H_
#define SINKLORA_COMMON_WEIGHTS_ADAPTER_EXPORT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/weights/peft_adapter.h"

namespace sinklora {

inline constexpr int64_t kMaxShardBytes = 5'000'000'000;

// Writes base + adapter as a model into `out_directory` (made when absent). A
// tied base stays tied when embedding and head of the result are the same,
// else config.json says that it is not. kFailedPrecondition when the adapter
// does not fit the base; kInvalidArgument naming the tensor when a merged value
// is not finite.
absl::Status MergeAdapter(const std::string& base_directory,
                          const PeftAdapter& adapter,
                          const std::string& out_directory,
                          int64_t max_shard_bytes = kMaxShardBytes);

// Writes the adapter without `full` into `adapter_directory`, for the model
// that is written into `base_out_directory`: the base with `full` in it. Name
// that in base_model before. Errors as above.
absl::Status WriteSplitAdapter(const std::string& base_directory,
                               const PeftAdapter& adapter,
                               const std::string& adapter_directory,
                               const std::string& base_out_directory,
                               int64_t max_shard_bytes = kMaxShardBytes);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_ADAPTER_EXPORT_H_
