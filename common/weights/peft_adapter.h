// PEFT LoRA adapters on disk: adapter_config.json + adapter_model.safetensors,
// with exactly PEFT's names and keys. Fully tuned embedding, norms and head
// travel in it as modules_to_save. The context and RoPE factor the adapter was
// tuned for are recorded in the safetensors metadata and, as extra keys PEFT
// ignores, in adapter_config.json.
//
// Plain value and functions: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_
#define SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/weights/host_tensor.h"
#include "common/weights/llama_config.h"
#include "common/weights/peft_config.h"

namespace sinklora {

// Adapted matrix: W + scale B A, its rows rescaled to `lora_magnitude` with
// DoRA. Modules are named like the base's tensors without ".weight", e.g.
// "model.layers.0.self_attn.q_proj".
struct PeftAdapter : PeftConfig {
  std::map<std::string, HostTensor> lora_a;          // [rank, in]
  std::map<std::string, HostTensor> lora_b;          // [out, rank]
  std::map<std::string, HostTensor> lora_magnitude;  // [out]; use_dora only
  // Fully tuned tensors by the base's tensor name, e.g.
  // "model.embed_tokens.weight". A tied base whose embedding is tuned has
  // "lm_head.weight" as well: without it the head stays the base's, as in PEFT.
  std::map<std::string, HostTensor> full;
  // Rows beyond the base's vocabulary that ReadPeftAdapter dropped.
  int64_t dropped_vocab_rows = 0;
};

// Scale of every module of lora_a: alpha / rank, or alpha / sqrt(rank), with
// alpha by alpha_pattern and the rank of the matrix itself. kInvalidArgument
// for a pattern that is no regular expression.
absl::StatusOr<std::map<std::string, double>> LoraScales(
    const PeftAdapter& adapter);

// Extra vocabulary rows that are dropped at most: LongLoRA's [PAD] row 32000,
// and padding to multiples of 64. More means another vocabulary.
inline constexpr int64_t kMaxDroppedVocabRows = 64;

// Reads and checks `directory` against its base. Takes
//   - PEFT's form, and
//   - LongLoRA's: adapter_model.safetensors with the LoRA tensors and
//     trainable_params.safetensors with embedding and norms under the base's
//     names, which go to `full` and modules_to_save.
// An embedding or head with up to kMaxDroppedVocabRows rows more than the base
// has tokens loses them: tokens that the base's tokenizer never makes.
// kInvalidArgument naming the key or tensor for what ParsePeftConfig refuses, a
// torch pickle, and whatever CheckAdapter finds.
absl::StatusOr<PeftAdapter> ReadPeftAdapter(const std::string& directory,
                                            const LlamaConfig& base);

// Checks `adapter` against its base and itself: exactly the tensors that its
// configuration names, with the shapes that rank and base give, finite values.
// kInvalidArgument names the tensor, what was found and what is expected.
absl::Status CheckAdapter(const PeftAdapter& adapter, const LlamaConfig& base);

// Writes both files into `directory` (made when absent). Tensors keep their
// dtype and bytes; an empty modules_to_save becomes the modules of `full`, by
// full name. Equal input gives equal bytes.
absl::Status WritePeftAdapter(const PeftAdapter& adapter,
                              const std::string& directory);

// Records in `directory`'s adapter_config.json for which context and RoPE
// factor the adapter was tuned, for files that do not say (LongLoRA's, PEFT's).
// The tensors stay as they are. Without `rope_factor`: what the file says, else
// the base's when the context is no longer than the base's, else LongLoRA's,
// context_tokens / the base's context rounded up. Nothing is written when the
// file says just that.
//
// kFailedPrecondition, and nothing written, when the file says something else,
// when the base's kind of scaling has no such factor (CheckRopeFactor), and
// when a factor must be given because the base is scaled already; errors of
// ParsePeftConfig.
absl::Status RecordAdapterContext(int64_t context_tokens,
                                  std::optional<double> rope_factor,
                                  const LlamaConfig& base,
                                  const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PEFT_ADAPTER_H_
