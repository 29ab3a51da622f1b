// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_model_metadata.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status.h"
#include "common/gguf/gguf_keys.h"
#include "common/gguf/gguf_rope.h"
#include "common/gguf/gguf_tensor_names.h"
#include "common/weights/file_dtype.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;
constexpr uint32_t kQuantizationVersion = 2;  // of ggml's blocks

// llama.cpp's numbers (enum llama_ftype).
uint32_t FileTypeNumber(GgufFileType type) {
  switch (type) {
    case GgufFileType::kF32:
      return 0;
    case GgufFileType::kF16:
      return 1;
    case GgufFileType::kQ80:
      return 7;
    case GgufFileType::kBf16:
      break;
  }
  return 32;
}

absl::Status CheckExportable(const LlamaConfig& config,
                             const std::string& architecture,
                             const std::string& what) {
  if (architecture != "llama" && (config.o_bias || config.mlp_bias)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} with a bias in o_proj or the MLP is not supported by llama.cpp",
        what, config.model_type));
  }
  if (architecture == "llama" && config.qk_norm) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} with norms of queries and keys is not supported "
                    "by llama.cpp",
                    what, config.model_type));
  }
  return absl::OkStatus();
}

// Keys of one architecture, each of which must be there.
class Reader {
 public:
  Reader(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  absl::Status Missing(const std::string& key) const {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is missing", file_.what(), key));
  }
  absl::Status Size(const char* key, int64_t* out) const {
    SL_RETURN_IF_ERROR(OptionalSize(key, out));
    return *out == 0 ? Missing(architecture_ + key) : absl::OkStatus();
  }
  // Leaves *out as it is when the key is absent.
  absl::Status OptionalSize(const char* key, int64_t* out) const {
    SL_ASSIGN_OR_RETURN(const auto value,
                        file_.GetInt(architecture_ + key, kMaxSize));
    if (!value) return absl::OkStatus();
    if (*value == 0) {
      return absl::InvalidArgumentError(
          fmt::format("{}: key '{}{}' is 0, must be in [1, {}]", file_.what(),
                      architecture_, key, kMaxSize));
    }
    *out = *value;
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<double>> Decimal(const char* key) const {
    SL_ASSIGN_OR_RETURN(auto value, file_.GetNumber(architecture_ + key));
    if (value) value = ShortestDecimal(*value);
    return value;
  }

 private:
  const GgufFile& file_;
  const std::string architecture_;
};

absl::Status ReadSizes(const GgufFile& file, const std::string& architecture,
                       LlamaConfig* config) {
  const Reader reader(file, architecture);
  SL_RETURN_IF_ERROR(reader.Size(gguf_keys::kBlockCount, &config->num_layers));
  SL_RETURN_IF_ERROR(
      reader.Size(gguf_keys::kEmbeddingLength, &config->hidden_size));
  SL_RETURN_IF_ERROR(
      reader.Size(gguf_keys::kFeedForwardLength, &config->intermediate_size));
  SL_RETURN_IF_ERROR(reader.Size(gguf_keys::kHeadCount, &config->num_heads));
  config->num_kv_heads = config->num_heads;
  SL_RETURN_IF_ERROR(
      reader.OptionalSize(gguf_keys::kHeadCountKv, &config->num_kv_heads));
  config->head_dim = config->hidden_size / config->num_heads;
  if (config->num_layers > static_cast<int64_t>(file.tensors().size())) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}{}' is {}, the file has only {} tensors",
                    file.what(), architecture, gguf_keys::kBlockCount,
                    config->num_layers, file.tensors().size()));
  }
  SL_RETURN_IF_ERROR(
      reader.OptionalSize(gguf_keys::kKeyLength, &config->head_dim));
  for (const char* key :
       {gguf_keys::kValueLength, gguf_keys::kRopeDimensions}) {
    int64_t size = config->head_dim;
    SL_RETURN_IF_ERROR(reader.OptionalSize(key, &size));
    if (size != config->head_dim) {
      return absl::InvalidArgumentError(
          fmt::format("{}: key '{}{}' is {}, must be the head's length {}",
                      file.what(), architecture, key, size, config->head_dim));
    }
  }
  SL_ASSIGN_OR_RETURN(
      const auto experts,
      file.GetInt(architecture + gguf_keys::kExpertCount, kMaxSize));
  if (experts.value_or(0) != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}{}' is {}, experts are not supported", file.what(),
        architecture, gguf_keys::kExpertCount, *experts));
  }
  return absl::OkStatus();
}

absl::Status ReadContext(const GgufFile& file, const std::string& architecture,
                         LlamaConfig* config) {
  const Reader reader(file, architecture);
  SL_RETURN_IF_ERROR(
      reader.Size(gguf_keys::kContextLength, &config->max_position_embeddings));
  SL_ASSIGN_OR_RETURN(const auto positions,
                      file.GetInt(gguf_keys::kMaxPositions, kMaxSize));
  if (positions) config->max_position_embeddings = *positions;
  SL_RETURN_IF_ERROR(
      reader.OptionalSize(gguf_keys::kSlidingWindow, &config->sliding_window));
  SL_ASSIGN_OR_RETURN(const auto first,
                      file.GetInt(gguf_keys::kFirstSlidingLayer, kMaxSize));
  config->first_sliding_layer = first.value_or(0);
  return absl::OkStatus();
}

const GgufTensor* FindTensor(const GgufFile& file, std::string_view name) {
  const auto it =
      std::find_if(file.tensors().begin(), file.tensors().end(),
                   [name](const GgufTensor& t) { return t.name == name; });
  return it == file.tensors().end() ? nullptr : &*it;
}

// What the tensors say and no key does.
absl::Status ReadTensors(const GgufFile& file, LlamaConfig* config) {
  const GgufTensor* embedding = FindTensor(file, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: tensor 'token_embd.weight' is missing or no matrix", file.what()));
  }
  config->vocab_size = embedding->shape[0];
  config->tie_word_embeddings = FindTensor(file, "output.weight") == nullptr;
  config->qkv_bias = FindTensor(file, "blk.0.attn_q.bias") != nullptr;
  config->o_bias = FindTensor(file, "blk.0.attn_output.bias") != nullptr;
  config->mlp_bias = FindTensor(file, "blk.0.ffn_gate.bias") != nullptr;
  config->qk_norm = FindTensor(file, "blk.0.attn_q_norm.weight") != nullptr;
  const GgufTensor* freqs = FindTensor(file, kRopeFreqsTensor);
  if (freqs == nullptr) return absl::OkStatus();
  const std::string what =
      fmt::format("{}: tensor '{}'", file.what(), kRopeFreqsTensor);
  if (freqs->type != GgmlType::kF32 ||
      freqs->shape != std::vector<int64_t>{config->head_dim / 2}) {
    return absl::InvalidArgumentError(
        fmt::format("{} is {} of shape {}, must be F32 of {}", what,
                    GgmlTypeName(freqs->type), ShapeToString(freqs->shape),
                    ShapeToString({config->head_dim / 2})));
  }
  SL_ASSIGN_OR_RETURN(const std::vector<float> factors,
                      ToF32({FileDType::kF32, freqs->shape, freqs->bytes}));
  return FitLlama3Scaling(factors, what, config);
}

}  // namespace

GgmlType MatrixType(GgufFileType type) {
  switch (type) {
    case GgufFileType::kF32:
      return GgmlType::kF32;
    case GgufFileType::kF16:
      return GgmlType::kF16;
    case GgufFileType::kQ80:
      return GgmlType::kQ80;
    case GgufFileType::kBf16:
      break;
  }
  return GgmlType::kBf16;
}

absl::StatusOr<std::string> GgufArchitecture(const LlamaConfig& config,
                                             const std::string& what) {
  if (config.model_type == "mistral") return std::string("llama");
  for (const char* name : {"llama", "qwen2", "qwen3"}) {
    if (config.model_type == name) return std::string(name);
  }
  return absl::InvalidArgumentError(fmt::format(
      "{}: model_type '{}' has no GGUF export, only llama, mistral, qwen2 and "
      "qwen3 have",
      what, config.model_type));
}

absl::Status AddModelMetadata(const LlamaConfig& config,
                              const std::string& name, GgufFileType type,
                              const std::string& what, GgufHeader* header) {
  SL_ASSIGN_OR_RETURN(const std::string architecture,
                      GgufArchitecture(config, what));
  SL_RETURN_IF_ERROR(CheckExportable(config, architecture, what));
  header->AddString(gguf_keys::kArchitecture, architecture);
  header->AddString(gguf_keys::kType, "model");
  header->AddString(gguf_keys::kName, name);
  header->AddUint32(gguf_keys::kFileType, FileTypeNumber(type));
  header->AddUint32(gguf_keys::kQuantizationVersion, kQuantizationVersion);
  const int64_t context =
      config.sliding_window > 0
          ? std::min(config.context_tokens(), config.sliding_window)
          : config.context_tokens();
  const std::pair<const char*, int64_t> sizes[] = {
      {gguf_keys::kBlockCount, config.num_layers},
      {gguf_keys::kContextLength, context},
      {gguf_keys::kEmbeddingLength, config.hidden_size},
      {gguf_keys::kFeedForwardLength, config.intermediate_size},
      {gguf_keys::kHeadCount, config.num_heads},
      {gguf_keys::kHeadCountKv, config.num_kv_heads},
      {gguf_keys::kKeyLength, config.head_dim},
      {gguf_keys::kValueLength, config.head_dim},
      {gguf_keys::kRopeDimensions, config.head_dim},
      {gguf_keys::kVocabSize, config.vocab_size}};
  for (const auto& [key, size] : sizes) {
    header->AddUint32(architecture + key, static_cast<uint32_t>(size));
  }
  header->AddFloat(architecture + gguf_keys::kRmsEpsilon,
                   static_cast<float>(config.rms_norm_eps));
  header->AddFloat(architecture + gguf_keys::kRopeBase,
                   static_cast<float>(config.rope_theta));
  SL_RETURN_IF_ERROR(AddRopeScaling(config, architecture, what, header));
  if (config.sliding_window > 0) {
    header->AddUint32(architecture + gguf_keys::kSlidingWindow,
                      static_cast<uint32_t>(config.sliding_window));
    header->AddUint32(gguf_keys::kFirstSlidingLayer,
                      static_cast<uint32_t>(config.first_sliding_layer));
  }
  if (context != config.max_position_embeddings) {
    header->AddUint32(gguf_keys::kMaxPositions,
                      static_cast<uint32_t>(config.max_position_embeddings));
  }
  return absl::OkStatus();
}

absl::StatusOr<LlamaConfig> ParseModelMetadata(const GgufFile& file) {
  SL_ASSIGN_OR_RETURN(const auto name,
                      file.GetString(gguf_keys::kArchitecture));
  if (name != "llama" && name != "qwen2" && name != "qwen3") {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, must be 'llama', 'qwen2' or 'qwen3'",
                    file.what(), gguf_keys::kArchitecture,
                    name ? fmt::format("'{}'", *name) : "missing"));
  }
  const std::string architecture(*name);
  LlamaConfig config;
  SL_RETURN_IF_ERROR(ReadSizes(file, architecture, &config));
  SL_RETURN_IF_ERROR(ReadContext(file, architecture, &config));
  const bool windowed = architecture == "llama" && config.sliding_window > 0;
  config.model_type = windowed ? "mistral" : architecture;
  const Reader reader(file, architecture);
  SL_ASSIGN_OR_RETURN(const auto eps, reader.Decimal(gguf_keys::kRmsEpsilon));
  if (!eps) return reader.Missing(architecture + gguf_keys::kRmsEpsilon);
  config.rms_norm_eps = *eps;
  SL_ASSIGN_OR_RETURN(const auto base, reader.Decimal(gguf_keys::kRopeBase));
  config.rope_theta = base.value_or(10000);
  SL_RETURN_IF_ERROR(ParseRopeScaling(file, architecture, &config));
  SL_RETURN_IF_ERROR(ReadTensors(file, &config));
  return config;
}

}  // namespace sinklora
