// SPDX-License-Identifier: Apache-2.0
#include "tests/common/model/model_fixture.h"

#include <cmath>
#include <random>

namespace sinklora {

LlamaConfig SmallConfig(bool tied) {
  LlamaConfig config;
  config.num_layers = 2;
  config.hidden_size = 32;
  config.intermediate_size = 40;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 48;
  config.max_position_embeddings = 64;
  config.tie_word_embeddings = tied;
  return config;
}

std::vector<NamedConfig> SmallArchitectures() {
  LlamaConfig bias = SmallConfig(true), mistral = SmallConfig(false),
              qwen2 = SmallConfig(true), qwen2_window = SmallConfig(false),
              qwen3 = SmallConfig(false), qwen3_bias = SmallConfig(true);
  bias.qkv_bias = bias.o_bias = bias.mlp_bias = true;
  mistral.model_type = "mistral";
  mistral.sliding_window = 6;
  qwen2.model_type = qwen2_window.model_type = "qwen2";
  qwen2.qkv_bias = qwen2_window.qkv_bias = true;
  qwen2_window.sliding_window = 5;
  qwen2_window.first_sliding_layer = 1;
  qwen3.model_type = qwen3_bias.model_type = "qwen3";
  qwen3.qk_norm = qwen3_bias.qk_norm = true;
  qwen3_bias.qkv_bias = qwen3_bias.o_bias = true;
  return {{"LlamaBias", bias}, {"Mistral", mistral},
          {"Qwen2", qwen2},    {"Qwen2Window", qwen2_window},
          {"Qwen3", qwen3},    {"Qwen3Bias", qwen3_bias}};
}

ModelOnDisk MakeModel(const LlamaConfig& config, uint64_t seed,
                      double deviation) {
  ModelOnDisk out;
  auto directory = TempDir::Create();
  EXPECT_TRUE(directory.ok()) << directory.status();
  out.directory = std::move(*directory);
  out.reference = testing::RandomReferenceModel(config, seed, deviation);
  EXPECT_OK(testing::WriteReferenceModel(out.reference, out.directory->path()));
  auto files = ModelFiles::Open(out.directory->path());
  EXPECT_TRUE(files.ok()) << files.status();
  if (files.ok()) out.files = std::move(*files);
  return out;
}

std::unique_ptr<kernels::Backend> OpenTestBackend(const char* name,
                                                  int num_threads) {
  std::unique_ptr<kernels::Backend> out;
  EXPECT_OK(kernels::OpenBackend(name, {.num_threads = num_threads}, &out));
  return out;
}

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab_size,
                                  uint64_t seed) {
  std::mt19937_64 bits(seed);
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) {
    out.push_back(
        static_cast<int32_t>(bits() % static_cast<uint64_t>(vocab_size)));
  }
  return out;
}

TrainingExample RandomExample(const std::vector<int64_t>& documents,
                              int64_t vocab_size, uint64_t seed) {
  TrainingExample out;
  out.document_tokens = documents;
  int64_t tokens = 0;
  for (const int64_t d : documents) tokens += d;
  out.token_ids = RandomTokens(tokens, vocab_size, seed);
  for (const int32_t x : RandomTokens(tokens, 4, seed + 1)) {
    out.supervised.push_back(x != 0);
  }
  return out;
}

testing::ReferenceBatch ToReference(
    const std::vector<TrainingExample>& examples,
    const AttentionOptions& attention, int64_t num_heads) {
  testing::ReferenceBatch out;
  const PatternKind p = attention.pattern;
  const double half = static_cast<double>(num_heads) / 2;
  if (p == PatternKind::kS2 || p == PatternKind::kS2Sinks) {
    out.shifted_heads = static_cast<int64_t>(half);
  } else if (p == PatternKind::kSf || p == PatternKind::kSegmentReassemble) {
    out.shifted_heads = std::lround((1 - attention.return_ratio) * half);
  }
  if (p == PatternKind::kSf || p == PatternKind::kS2Sinks) {
    out.sink_tokens = attention.sink_tokens;
  }
  for (const TrainingExample& e : examples) {
    const auto tokens = static_cast<double>(e.token_ids.size());
    size_t at = 0;
    for (const int64_t length : e.document_tokens) {
      const auto ratio_group =
          static_cast<int64_t>(std::ceil(tokens * attention.group_ratio));
      int64_t group = attention.group_size_tokens > 0
                          ? attention.group_size_tokens
                          : ratio_group;
      if (p == PatternKind::kFull || length < attention.full_below_tokens) {
        group = 2 * length;
      }
      out.documents.push_back({length, group});
      for (int64_t i = 0; i < length; ++i, ++at) {
        out.ids.push_back(e.token_ids[at]);
        const bool last = i + 1 == length;
        out.labels.push_back(!last && e.supervised[at + 1] ? e.token_ids[at + 1]
                                                           : -1);
      }
    }
  }
  return out;
}

int64_t LabelCount(const testing::ReferenceBatch& batch) {
  int64_t n = 0;
  for (const int32_t label : batch.labels) n += label >= 0 ? 1 : 0;
  return n;
}

TrainingOptions SmallTrainingOptions() {
  TrainingOptions options;
  options.context_tokens = 64;
  options.steps = 10;
  options.lora.rank = 3;
  options.lora.lora_alpha = 6;
  options.optimizer.learning_rate = 1e-2;
  options.optimizer.warmup_steps = 2;
  options.seed = 7;
  return options;
}

}  // namespace sinklora
