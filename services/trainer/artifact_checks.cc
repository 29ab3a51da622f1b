// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/artifact_checks.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/text/tokenizer.h"
#include "common/weights/checkpoint_manifest.h"
#include "common/weights/llama_config.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"

namespace sinklora::trainer {
namespace {

using registry::v1::Adapter;
using registry::v1::Architecture;
using registry::v1::Model;

bool IsPickle(const std::string& path) {
  for (const char* suffix : {".bin", ".pt", ".pth", ".pkl", ".ckpt"}) {
    if (path.ends_with(suffix)) return true;
  }
  return false;
}

absl::Status PickleRefused(const std::string& path) {
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("{}: weights in PyTorch's pickle form are not accepted "
                  "(loading them runs code); convert them to safetensors",
                  path),
      {"PICKLE_REFUSED", {{"path", path}}});
}

// A directory that has pickles in place of safetensors deserves a better
// answer than "no weights found". Beside safetensors a pickle is not read, and
// is no more than any other file, but for LongLoRA's: without it the adapter
// would be another one.
absl::Status RefusePickles(const FileInfos& files) {
  std::set<std::string> stems;  // of safetensors
  std::string pickle;
  for (const auto& file : files) {
    const std::filesystem::path path(file.path());
    if (path.extension() == ".safetensors") stems.insert(path.stem());
    if (IsPickle(file.path())) pickle = file.path();
  }
  for (const auto& file : files) {
    if (file.path() == "trainable_params.bin" &&
        !stems.contains("trainable_params")) {
      return PickleRefused(file.path());
    }
  }
  if (pickle.empty() || !stems.empty()) return absl::OkStatus();
  return PickleRefused(pickle);
}

Architecture Describe(const LlamaConfig& config) {
  Architecture architecture;
  architecture.set_model_type(config.model_type);
  architecture.set_parameter_count(config.parameter_count());
  architecture.set_num_layers(static_cast<int32_t>(config.num_layers));
  architecture.set_hidden_size(static_cast<int32_t>(config.hidden_size));
  architecture.set_intermediate_size(
      static_cast<int32_t>(config.intermediate_size));
  architecture.set_num_heads(static_cast<int32_t>(config.num_heads));
  architecture.set_num_kv_heads(static_cast<int32_t>(config.num_kv_heads));
  architecture.set_head_dim(static_cast<int32_t>(config.head_dim));
  architecture.set_vocab_size(static_cast<int32_t>(config.vocab_size));
  architecture.set_context_tokens(config.context_tokens());
  architecture.set_rope_factor(config.rope_factor);
  const bool scaled =
      config.rope.kind != RopeKind::kLinear || config.rope_factor != 1;
  architecture.set_rope_type(scaled ? RopeKindName(config.rope.kind) : "none");
  architecture.set_sliding_window_tokens(config.sliding_window);
  return architecture;
}

}  // namespace

// What is wrong with an upload is the caller's to mend, whatever the layer
// below called it; and where we staged it is nobody's business.
absl::Status AsUploadError(const absl::Status& status, const std::string& dir) {
  std::string message(status.message());
  // "DIR/config.json: ...", "DIR: config.json: ...", "DIR has no ...".
  const std::pair<std::string, std::string> replacements[] = {
      {dir + "/", ""}, {dir + ": ", ""}, {dir, "the directory"}};
  for (const auto& [staged, shown] : replacements) {
    for (size_t at = message.find(staged); at != std::string::npos;
         at = message.find(staged, at)) {
      message.replace(at, staged.size(), shown);
    }
  }
  const ErrorDetail detail = GetErrorDetail(status);
  const absl::StatusCode code =
      absl::IsNotFound(status) || absl::IsOutOfRange(status) ||
              absl::IsFailedPrecondition(status) || absl::IsDataLoss(status)
          ? absl::StatusCode::kInvalidArgument
          : status.code();
  return MakeError(
      code, message,
      detail.reason.empty() ? ErrorDetail{"INVALID_ARTEFACT", {}} : detail);
}

absl::StatusOr<Model> CheckModel(const std::string& dir,
                                 const FileInfos& files) {
  SL_RETURN_IF_ERROR(RefusePickles(files));
  const auto opened = ModelFiles::Open(dir);
  if (!opened.ok()) return AsUploadError(opened.status(), dir);
  const absl::Status finite = (*opened)->CheckFinite();
  if (!finite.ok()) return AsUploadError(finite, dir);
  const LlamaConfig& config = (*opened)->config();
  const auto tokenizer = Tokenizer::LoadFromDirectory(dir);
  if (!tokenizer.ok()) return AsUploadError(tokenizer.status(), dir);
  if ((*tokenizer)->vocab_size() > config.vocab_size) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        fmt::format("the tokenizer has {} tokens, but vocab_size in "
                    "config.json is {}",
                    (*tokenizer)->vocab_size(), config.vocab_size),
        {"TOKENIZER_TOO_LARGE",
         {{"tokenizer_tokens", std::to_string((*tokenizer)->vocab_size())},
          {"vocab_size", std::to_string(config.vocab_size)}}});
  }
  Model model;
  model.set_digest(ContentDigest(files));
  model.mutable_files()->Assign(files.begin(), files.end());
  *model.mutable_architecture() = Describe(config);
  model.set_tokenizer_digest((*tokenizer)->digest());
  return model;
}

absl::StatusOr<Adapter> CheckAdapter(const std::string& dir,
                                     const FileInfos& files,
                                     const std::string& base_dir) {
  SL_RETURN_IF_ERROR(RefusePickles(files));
  SL_ASSIGN_OR_RETURN(const std::string config_json,
                      ReadFile(JoinPath(base_dir, "config.json")));
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(config_json));
  const auto peft = ReadPeftAdapter(dir, config);
  if (!peft.ok()) return AsUploadError(peft.status(), dir);
  Adapter adapter;
  adapter.set_digest(ContentDigest(files));
  adapter.mutable_files()->Assign(files.begin(), files.end());
  // An adapter from elsewhere may not say its context: then it is the base's.
  adapter.set_context_tokens(peft->context_tokens > 0
                                 ? peft->context_tokens
                                 : config.context_tokens());
  adapter.set_rope_factor(peft->context_tokens > 0 ? peft->rope_factor
                                                   : config.rope_factor);
  adapter.set_lora_rank(static_cast<int32_t>(peft->rank));
  adapter.set_dropped_vocab_rows(peft->dropped_vocab_rows);
  return adapter;
}

absl::Status ApplyContext(const registry::v1::AdapterContext& context,
                          const std::string& base_dir, const std::string& dir,
                          FileInfos* files) {
  const int64_t tokens = context.context_tokens();
  const double factor = context.rope_factor();
  const auto bad = [](const char* field, const std::string& defect) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     fmt::format("{} {}", field, defect),
                     {"INVALID_ADAPTER_CONTEXT", {{"field", field}}});
  };
  if (tokens < 2 || tokens > kMaxContextTokens) {
    return bad(
        "context.context_tokens",
        fmt::format("is {}, must be in [2, {}]", tokens, kMaxContextTokens));
  }
  if (!(factor == 0 || factor >= 1)) {
    return bad("context.rope_factor",
               fmt::format("is {}, must be 0 or at least 1", factor));
  }
  SL_ASSIGN_OR_RETURN(const std::string config_json,
                      ReadFile(JoinPath(base_dir, "config.json")));
  SL_ASSIGN_OR_RETURN(const LlamaConfig base, ParseLlamaConfig(config_json));
  const absl::Status recorded = RecordAdapterContext(
      tokens, factor == 0 ? std::nullopt : std::optional(factor), base, dir);
  if (!recorded.ok()) {
    const absl::Status error = AsUploadError(recorded, dir);
    return absl::IsFailedPrecondition(recorded)
               ? bad("context", "cannot be: " + std::string(error.message()))
               : error;
  }
  const std::string path = JoinPath(dir, kAdapterConfigFile);
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  for (auto& file : *files) {
    if (file.path() != kAdapterConfigFile) continue;
    file.set_size_bytes(static_cast<int64_t>(text.size()));
    file.set_sha256(Sha256Hex(text));
  }
  return absl::OkStatus();
}

absl::Status CheckCheckpoint(const std::string& dir, const FileInfos& files,
                             int64_t step) {
  const auto invalid = [&](const std::string& defect) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     fmt::format("checkpoint of step {}: {}", step, defect),
                     {"INVALID_CHECKPOINT", {{"step", std::to_string(step)}}});
  };
  const auto manifest = ReadCheckpointManifest(dir);
  if (!manifest.ok()) {
    return invalid(
        std::string(AsUploadError(manifest.status(), dir).message()));
  }
  if (manifest->step != step) {
    return invalid(fmt::format("{} is of step {}", kCheckpointManifestFile,
                               manifest->step));
  }
  for (const auto& file : files) {
    if (file.path() != kCheckpointStateFile) continue;
    if (file.size_bytes() == manifest->state_size_bytes &&
        file.sha256() == manifest->state_sha256) {
      return absl::OkStatus();
    }
    return invalid(fmt::format(
        "{} has {} bytes and SHA-256 {}, {} says {} and {}", file.path(),
        file.size_bytes(), file.sha256(), kCheckpointManifestFile,
        manifest->state_size_bytes, manifest->state_sha256));
  }
  return invalid(fmt::format("{} is missing", kCheckpointStateFile));
}

}  // namespace sinklora::trainer
