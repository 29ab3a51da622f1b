// adapter_config.json of a PEFT LoRA adapter: what it says that changes what
// the adapter computes, and everything else as it was.
//
// Source: peft/tuners/lora/config.py and check_target_module_exists,
// get_pattern_key of PEFT (tests/parity/requirements.txt says which version).
//
// Plain values and functions: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_PEFT_CONFIG_H_
#define SINKLORA_COMMON_WEIGHTS_PEFT_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora {

// Keys that say which modules, in PEFT's form: a list of names, each meant
// exactly or as the end of a dotted name, or else one regular expression that
// must match a whole name.
struct PeftModules {
  std::vector<std::string> names;
  std::string regex;  // when not empty, instead of `names`

  bool empty() const { return names.empty() && regex.empty(); }
};

struct PeftConfig {
  std::string base_model;  // base_model_name_or_path
  int64_t rank = 8;
  double lora_alpha = 8;
  // Ranks and alphas of single modules: regular expressions that must match the
  // end of a dotted name. The first that matches counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  bool use_rslora = false;  // scale = alpha / sqrt(rank), not alpha / rank
  bool use_dora = false;    // every adapted matrix has a magnitude vector
  // "all-linear" as the regex means every projection of every layer.
  PeftModules target_modules;
  PeftModules exclude_modules;
  std::vector<int64_t> layers_to_transform;  // empty: all
  std::vector<std::string> layers_pattern;
  // Modules trained as a whole: every module whose name ends so.
  std::vector<std::string> modules_to_save;
  // A tied base's head is saved with its embedding.
  bool ensure_weight_tying = false;
  // The context and RoPE factor the adapter was tuned for; 0 when the file does
  // not say. The factor is relative to max_position_embeddings of the base.
  int64_t context_tokens = 0;
  double rope_factor = 1.0;
  // A JSON object of the keys that change nothing after training (dropout,
  // initialisation, revision, ...); empty: PEFT's defaults.
  std::string other_keys;
};

// Parses and checks one. kInvalidArgument naming `what` (the file), the key and
// the value for what is not supported: a peft_type other than LORA, a task_type
// other than CAUSAL_LM, bias other than none, fan_in_fan_out, lora_bias,
// layer_replication, trainable_token_indices, target_parameters, Megatron,
// aLoRA and the other LoRA variants, an init_lora_weights that changed the base
// (PiSSA, OLoRA, CorDA, LoftQ, ...), any unknown key that is true or a filled
// list or object, and for more than 256 regular expressions in the lists
// together (plain module names do not count).
absl::StatusOr<PeftConfig> ParsePeftConfig(std::string_view json,
                                           const std::string& what);

// The file's text, keys sorted as PEFT writes them. ParsePeftConfig(ToJson(c))
// gives `c` again.
std::string ToJson(const PeftConfig& config);

// Keys of our own: in adapter_config.json, where PEFT ignores them, and in the
// metadata of the tensors.
inline constexpr char kContextTokensKey[] = "sinklora_context_tokens";
inline constexpr char kRopeFactorKey[] = "sinklora_rope_factor";

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PEFT_CONFIG_H_
