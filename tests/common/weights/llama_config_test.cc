// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_config.h"

#include <tuple>

#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Llama-2-7B's, but for a few keys that do not matter.
constexpr char kLlama2[] = R"({
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
  "intermediate_size": 11008, "max_position_embeddings": 4096,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
  "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float16",
  "transformers_version": "4.31.0", "use_cache": true, "vocab_size": 32000
})";

std::string Edited(const std::string& key, const json& value) {
  json config = json::parse(kLlama2);
  if (value.is_discarded()) {
    config.erase(key);
  } else {
    config[key] = value;
  }
  return config.dump();
}
const json kErase(json::value_t::discarded);

TEST(LlamaConfigTest, Llama2) {
  ASSERT_OK_AND_ASSIGN(const LlamaConfig config, ParseLlamaConfig(kLlama2));
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_EQ(config.rope_factor, 1.0);
  EXPECT_EQ(config.eos_token_id, 2);
  EXPECT_EQ(config.context_tokens(), 4096);
  EXPECT_EQ(config.parameter_count(), 6738415616);
}

TEST(LlamaConfigTest, Defaults) {
  EXPECT_EQ(
      ParseLlamaConfig(Edited("num_key_value_heads", kErase))->num_kv_heads,
      32);
  EXPECT_EQ(ParseLlamaConfig(Edited("rms_norm_eps", kErase))->rms_norm_eps,
            1e-6);
  EXPECT_EQ(ParseLlamaConfig(Edited("head_dim", 64))->head_dim, 64);
  EXPECT_EQ(ParseLlamaConfig(Edited("eos_token_id", {7, 8}))->eos_token_id, 7);
  EXPECT_EQ(ParseLlamaConfig(Edited("eos_token_id", kErase))->eos_token_id,
            std::nullopt);
}

TEST(LlamaConfigTest, WhatIsNotSupportedIsNamed) {
  struct Case {
    const char* key;
    json value;
    const char* message;
  };
  const Case cases[] = {
      {"model_type", "gemma", "model_type is 'gemma'"},
      {"model_type", kErase, "model_type is missing"},
      {"model_type", "mistral", "only MistralForCausalLM"},
      {"architectures", {"LlamaForSequenceClassification"}, "architectures"},
      {"hidden_act", "gelu", "hidden_act is 'gelu'"},
      {"quantization_config", {{"bits", 4}}, "quantized models"},
      {"compression_config", {{"bits", 4}}, "quantized models"},
      {"auto_map", {{"AutoModelForCausalLM", "x.Y"}}, "code of its own"},
      {"partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5, only 1"},
      {"rope_interleaved", true, "half-split"},
      {"no_rope_layers", {1, 0}, "layers without RoPE"},
      {"num_local_experts", 8, "num_local_experts is 8, mixture-of-experts"},
      {"num_experts", 64, "num_experts is 64, mixture-of-experts"},
      {"final_logit_softcapping", 30.0, "soft caps"},
      {"attn_logit_softcapping", 50.0, "soft caps"},
      {"query_pre_attn_scalar", 256, "query_pre_attn_scalar"},
      {"residual_multiplier", 0.22, "residual_multiplier is 0.22"},
      {"clip_qkv", 8.0, "clip_qkv"},
      {"use_qk_norm", true, "'qwen3'"},
      {"bias", true, "bias is true"},
      {"attention_chunk_size", 8192, "attention_chunk_size"},
      {"vision_config", json::object(), "only text models"},
      {"sliding_window", 4096, "sliding_window is 4096"},
      {"use_sliding_window", true, "use_sliding_window is true"},
      {"layer_types", {"full_attention"}, "must list num_hidden_layers 32"},
      {"attention_bias", 1, "attention_bias is 1"},
      {"hidden_size", 0, "hidden_size is 0, must be in [1, 2147483647]"},
      {"hidden_size", 2147483648, "hidden_size is 2147483648"},
      {"hidden_size", 4096.5, "hidden_size is 4096.5"},
      {"hidden_size", "4096", "hidden_size is \"4096\""},
      {"hidden_size", 4097, "hidden_size is 4097, must be a multiple"},
      {"num_hidden_layers", kErase, "num_hidden_layers is missing"},
      {"num_hidden_layers", -1, "num_hidden_layers is -1"},
      {"vocab_size", kErase, "vocab_size is missing"},
      {"num_key_value_heads", 5, "multiple of num_key_value_heads 5"},
      {"head_dim", 12, "head_dim is 12"},
      {"head_dim", 264, "head_dim is 264"},
      {"rms_norm_eps", 0, "rms_norm_eps is 0"},
      {"rope_theta", -1, "rope_theta is -1"},
      {"rope_theta", 1, "rope_theta is 1, must be over 1"},
      {"eos_token_id", 32000, "eos_token_id is 32000"},
      {"num_hidden_layers", 2147483647, "parameters"},
      {"tie_word_embeddings", "no", "tie_word_embeddings is \"no\""},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ParseLlamaConfig(Edited(c.key, c.value)),
                StatusIs(kInvalid,
                         AllOf(HasSubstr("config.json"), HasSubstr(c.message))))
        << c.key;
  }
  EXPECT_THAT(ParseLlamaConfig("{"), StatusIs(kInvalid));
}

// Every key that would compute something else, with a value that would and the
// one that would not.
TEST(LlamaConfigTest, KeysOfOtherArchitecturesAreRefusedUnlessHarmless) {
  struct Key {
    const char* key;
    json harmful;
    json harmless;
  };
  const json object = json::object({{"a", 1}}), none = nullptr;
  const Key keys[] = {
      {"quantization_config", object, none},
      {"compression_config", object, none},
      {"auto_map", object, none},
      {"partial_rotary_factor", 0.25, 1.0},
      {"rotary_pct", 0.5, 1},
      {"rope_interleave", true, false},
      {"rope_interleaved", true, false},
      {"alibi", true, false},
      {"no_rope_layers", {1, 0}, none},
      {"no_rope_layer_interval", 4, none},
      {"num_experts", 8, 0},
      {"num_local_experts", 8, 0},
      {"n_routed_experts", 64, 0},
      {"num_experts_per_tok", 2, 0},
      {"moe_intermediate_size", 64, 0},
      {"attn_logit_softcapping", 50.0, none},
      {"final_logit_softcapping", 30.0, none},
      {"query_pre_attn_scalar", 256, none},
      {"attention_multiplier", 0.01, none},
      {"embedding_multiplier", 12, 1},
      {"residual_multiplier", 0.22, 1.0},
      {"logits_scaling", 8, 1},
      {"logit_scale", 0.06, 1},
      {"scale_emb", 12, 1},
      {"scale_depth", 1.4, 1},
      {"clip_qkv", 8, none},
      {"use_qk_norm", true, false},
      {"qk_norm", true, false},
      {"qk_layernorm", true, false},
      {"bias", true, false},
      {"use_parallel_residual", true, false},
      {"parallel_attn", true, false},
      {"attention_chunk_size", 8192, none},
      {"kv_lora_rank", 512, none},
      {"num_nextn_predict_layers", 1, 0},
      {"cross_attention_layers", {3}, none},
      {"vision_config", object, none},
      {"text_config", object, none},
      {"audio_config", object, none},
      {"add_cross_attention", true, false},
      {"is_encoder_decoder", true, false},
  };
  for (const Key& k : keys) {
    EXPECT_THAT(ParseLlamaConfig(Edited(k.key, k.harmful)),
                StatusIs(kInvalid, HasSubstr(std::string("config.json: ") +
                                             k.key + " is ")))
        << k.key;
    EXPECT_OK(ParseLlamaConfig(Edited(k.key, k.harmless)).status()) << k.key;
    EXPECT_OK(ParseLlamaConfig(Edited(k.key, nullptr)).status()) << k.key;
  }
}

// Keys as in the published config.json files, those that mean nothing here
// included.
TEST(LlamaConfigTest, PublishedConfigs) {
  const auto parse = [](const char* text) {
    const auto config = ParseLlamaConfig(text);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.value_or(LlamaConfig());
  };
  const LlamaConfig llama3 = parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 8192, "max_position_embeddings": 131072,
    "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
      "high_freq_factor": 4.0, "low_freq_factor": 1.0,
      "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})");
  EXPECT_EQ(llama3.parameter_count(), 1235814400);  // Llama-3.2-1B
  EXPECT_EQ(llama3.context_tokens(), 131072);
  EXPECT_EQ(llama3.rope.kind, RopeKind::kLlama3);

  const LlamaConfig mistral = parse(R"({
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 14336, "max_position_embeddings": 32768,
    "model_type": "mistral", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096,
    "tie_word_embeddings": false, "vocab_size": 32000})");
  EXPECT_EQ(mistral.parameter_count(), 7241732096);
  EXPECT_EQ(mistral.window(0), 4096);

  const LlamaConfig qwen2 = parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
    "hidden_size": 896, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 21,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": true,
    "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936})");
  EXPECT_EQ(qwen2.parameter_count(), 494032768);  // Qwen2.5-0.5B
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.qk_norm);
  EXPECT_EQ(qwen2.sliding_window, 0);

  const LlamaConfig qwen3 = parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
    "max_position_embeddings": 40960, "max_window_layers": 28,
    "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
    "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
    "use_sliding_window": false, "vocab_size": 151936})");
  EXPECT_EQ(qwen3.parameter_count(), 596049920);  // Qwen3-0.6B
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);

  const LlamaConfig smol = parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
    "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 9, "num_hidden_layers": 30,
    "num_key_value_heads": 3, "pad_token_id": 2, "rms_norm_eps": 1e-05,
    "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
    "tie_word_embeddings": true, "transformers.js_config": {"dtype": "q4"},
    "vocab_size": 49152})");
  EXPECT_EQ(smol.parameter_count(), 134515008);  // SmolLM2-135M
}

TEST(LlamaConfigTest, DefaultsOfEachModelType) {
  const auto of = [](const json& change) {
    json config = json::parse(kLlama2);
    config.erase("architectures");
    config.merge_patch(change);
    const auto parsed = ParseLlamaConfig(config.dump());
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return parsed.value_or(LlamaConfig());
  };
  EXPECT_EQ(of({{"model_type", "mistral"}}).sliding_window, 4096);
  EXPECT_EQ(of({{"model_type", "qwen3"}, {"num_attention_heads", 64}}).head_dim,
            128);
  const LlamaConfig bias = of({{"attention_bias", true}, {"mlp_bias", true}});
  EXPECT_TRUE(bias.qkv_bias && bias.o_bias && bias.mlp_bias);
  const LlamaConfig qwen3 =
      of({{"model_type", "qwen3"}, {"attention_bias", true}});
  EXPECT_TRUE(qwen3.qkv_bias && qwen3.o_bias && qwen3.qk_norm);
  const LlamaConfig qwen2 = of({{"model_type", "qwen2"}});
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.mlp_bias);
}

TEST(LlamaConfigTest, SlidingWindows) {
  const auto of = [](json change) {
    json config = json::parse(kLlama2);
    config.erase("architectures");
    config["num_hidden_layers"] = 4;
    for (const auto& [key, value] : change.items()) config[key] = value;
    return ParseLlamaConfig(config.dump());
  };
  const auto windows = [&](const json& change) {
    std::vector<int64_t> out;
    const auto config = of(change);
    EXPECT_TRUE(config.ok()) << config.status();
    for (int i = 0; config.ok() && i < 4; ++i) out.push_back(config->window(i));
    return out;
  };
  const std::string s = "sliding_attention", f = "full_attention";
  using Windows = std::vector<int64_t>;
  const json mistral = {{"model_type", "mistral"}, {"sliding_window", 9}};
  EXPECT_EQ(windows(mistral), (Windows{9, 9, 9, 9}));
  json change = mistral;
  change["sliding_window"] = nullptr;
  EXPECT_EQ(windows(change), (Windows{0, 0, 0, 0}));
  const json qwen = {{"model_type", "qwen2"},
                     {"use_sliding_window", true},
                     {"sliding_window", 9},
                     {"max_window_layers", 3}};
  EXPECT_EQ(windows(qwen), (Windows{0, 0, 0, 9}));
  for (const auto& [key, value, want] :
       std::vector<std::tuple<const char*, json, Windows>>{
           {"max_window_layers", 0, {9, 9, 9, 9}},
           {"max_window_layers", 4, {0, 0, 0, 0}},
           {"max_window_layers", nullptr, {0, 0, 0, 0}},  // 28
           {"sliding_window", nullptr, {0, 0, 0, 0}},
           {"use_sliding_window", false, {0, 0, 0, 0}},
           {"layer_types", {f, s, s, s}, {0, 9, 9, 9}}}) {
    change = qwen;
    change[key] = value;
    EXPECT_EQ(windows(change), want) << key << " " << value;
  }
  const auto rejects = [&](json base, const char* key, const json& value,
                           const char* message) {
    base[key] = value;
    EXPECT_THAT(of(base), StatusIs(kInvalid, HasSubstr(message))) << key;
  };
  rejects(qwen, "layer_types", {s, f, f, s}, "layer_types[1]");
  rejects(qwen, "layer_types", {f, f, f, "chunked"}, "\"chunked\", must be");
  rejects(qwen, "layer_types", {f, f}, "must list num_hidden_layers 4");
  rejects(qwen, "layer_types", "x", "layer_types");
  rejects(mistral, "layer_types", {f, f, s, s}, "layers from 0 on");
  rejects(mistral, "sliding_window", 0, "sliding_window is 0");
  rejects(mistral, "attention_bias", true, "without it");
  rejects(mistral, "mlp_bias", true, "without it");
  rejects(mistral, "num_key_value_heads", nullptr, "num_key_value_heads is");
  rejects({{"model_type", "qwen2"}}, "attention_bias", false, "with it");
  rejects({{"model_type", "qwen2"}}, "layer_types", {f, f, s, s}, "agree");
  rejects({}, "layer_types", {s, s, s, s}, "agree");
}

TEST(LlamaConfigTest, ToJsonParsesBack) {
  ASSERT_OK_AND_ASSIGN(LlamaConfig llama, ParseLlamaConfig(kLlama2));
  llama.rope_factor = 4;
  llama.head_dim = 64;
  llama.num_kv_heads = 8;
  llama.tie_word_embeddings = true;
  LlamaConfig bias = llama;
  bias.qkv_bias = bias.o_bias = bias.mlp_bias = true;
  bias.rope.kind = RopeKind::kDynamic;
  LlamaConfig mistral = llama;
  mistral.model_type = "mistral";
  mistral.sliding_window = 128;
  mistral.rope.kind = RopeKind::kYarn;
  mistral.rope.original_context = 2048;
  mistral.rope.beta_fast = 16;
  mistral.rope.mscale = 0.7;
  mistral.rope.mscale_all_dim = 0.5;
  mistral.rope.truncate = false;
  LlamaConfig full = mistral;
  full.sliding_window = 0;
  full.rope.attention_factor = 1.25;
  LlamaConfig qwen2 = llama;
  qwen2.model_type = "qwen2";
  qwen2.qkv_bias = true;
  qwen2.sliding_window = 64;
  qwen2.first_sliding_layer = 30;
  LlamaConfig qwen3 = llama;
  qwen3.model_type = "qwen3";
  qwen3.qk_norm = true;
  qwen3.rope.kind = RopeKind::kLlama3;
  qwen3.rope.original_context = 1024;
  qwen3.rope.low_freq_factor = 2;
  for (const LlamaConfig& config : {llama, bias, mistral, full, qwen2, qwen3}) {
    const std::string text = ToJson(config);
    ASSERT_OK_AND_ASSIGN(const LlamaConfig back, ParseLlamaConfig(text));
    EXPECT_EQ(ToJson(back), text);
    EXPECT_EQ(back.parameter_count(), config.parameter_count());
    EXPECT_EQ(back.rope_factor, 4);
    EXPECT_EQ(back.context_tokens(), config.context_tokens());
    EXPECT_EQ(back.rope.kind, config.rope.kind);
    EXPECT_EQ(back.rope.attention_factor, config.rope.attention_factor);
    EXPECT_EQ(back.rope.truncate, config.rope.truncate);
    for (int i : {0, 29, 30, 31}) EXPECT_EQ(back.window(i), config.window(i));
  }
}

}  // namespace
}  // namespace sinklora
