// SPDX-License-Identifier: Apache-2.0
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/model_directory.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

absl::Status CheckSameContext(const PeftConfig& config, int64_t context_tokens,
                              std::optional<double> rope_factor,
                              const std::string& path) {
  const double factor = rope_factor.value_or(config.rope_factor);
  if (config.context_tokens == context_tokens && config.rope_factor == factor) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      fmt::format("{}: {} is {} and {} is {}; {} and {} were given", path,
                  kContextTokensKey, config.context_tokens, kRopeFactorKey,
                  config.rope_factor, context_tokens, factor));
}

// LongLoRA's rule (fine-tune.py). It replaces the factor of a base that is
// scaled already; others multiply it, so that one is not guessed at.
absl::StatusOr<double> LongLoraFactor(int64_t context_tokens,
                                      const LlamaConfig& base) {
  const int64_t original = base.context_tokens();
  if (context_tokens <= original) return base.rope_factor;
  if (base.rope_factor == 1) {
    return static_cast<double>((context_tokens + original - 1) / original);
  }
  return absl::FailedPreconditionError(
      fmt::format("the base is scaled already, to {} tokens with RoPE factor "
                  "{}: the factor "
                  "of an adapter for {} tokens must be given",
                  original, base.rope_factor, context_tokens));
}

}  // namespace

absl::Status WritePeftAdapter(const PeftAdapter& adapter,
                              const std::string& directory) {
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [module, a] : adapter.lora_a) {
    tensors[LoraAName(module)] = a.view();
  }
  for (const auto& [module, b] : adapter.lora_b) {
    tensors[LoraBName(module)] = b.view();
  }
  for (const auto& [module, magnitude] : adapter.lora_magnitude) {
    tensors[LoraMagnitudeName(module)] = magnitude.view();
  }
  PeftConfig config = adapter;
  for (const auto& [name, full] : adapter.full) {
    tensors[FullName(name)] = full.view();
    if (adapter.modules_to_save.empty()) {
      config.modules_to_save.push_back(ModuleOfTensor(name));
    }
  }
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (adapter.context_tokens > 0) {
    metadata[kContextTokensKey] = fmt::format("{}", adapter.context_tokens);
    metadata[kRopeFactorKey] = fmt::format("{}", adapter.rope_factor);
  }
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, kAdapterModelFile),
                                      tensors, metadata));
  return WriteFileAtomic(JoinPath(directory, kAdapterConfigFile),
                         ToJson(config));
}

absl::Status RecordAdapterContext(int64_t context_tokens,
                                  std::optional<double> rope_factor,
                                  const LlamaConfig& base,
                                  const std::string& directory) {
  const std::string path = JoinPath(directory, kAdapterConfigFile);
  SL_ASSIGN_OR_RETURN(const std::string text,
                      ReadModelFile(directory, kAdapterConfigFile));
  SL_ASSIGN_OR_RETURN(PeftConfig config, ParsePeftConfig(text, path));
  if (config.context_tokens > 0) {
    return CheckSameContext(config, context_tokens, rope_factor, path);
  }
  if (!rope_factor) {
    SL_ASSIGN_OR_RETURN(rope_factor, LongLoraFactor(context_tokens, base));
  }
  const absl::Status fits = CheckRopeFactor(base, *rope_factor);
  if (!fits.ok()) return absl::FailedPreconditionError(fits.message());
  config.context_tokens = context_tokens;
  config.rope_factor = *rope_factor;
  return WriteFileAtomic(path, ToJson(config));
}

}  // namespace sinklora
