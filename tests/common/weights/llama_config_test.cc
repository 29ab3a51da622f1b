// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_config.h"

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

TEST(LlamaConfigTest, LinearScalingInAllSpellings) {
  for (const json& scaling :
       {json{{"type", "linear"}, {"factor", 8}},
        json{{"rope_type", "linear"}, {"factor", 8.0}},
        json{{"rope_type", "linear"}, {"type", "linear"}, {"factor", 8.0}}}) {
    ASSERT_OK_AND_ASSIGN(const LlamaConfig config,
                         ParseLlamaConfig(Edited("rope_scaling", scaling)));
    EXPECT_EQ(config.rope_factor, 8.0);
    EXPECT_EQ(config.context_tokens(), 32768);
  }
  ASSERT_OK_AND_ASSIGN(
      const LlamaConfig config,
      ParseLlamaConfig(Edited(
          "rope_parameters",
          {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}})));
  EXPECT_EQ(config.rope_factor, 2.0);
  EXPECT_EQ(config.rope_theta, 5e5);
  EXPECT_EQ(ParseLlamaConfig(Edited("rope_scaling", {{"rope_type", "default"}}))
                ->rope_factor,
            1.0);
}

TEST(LlamaConfigTest, WhatIsNotSupportedIsNamed) {
  struct Case {
    const char* key;
    json value;
    const char* message;
  };
  const Case cases[] = {
      {"model_type", "mistral", "model_type is 'mistral'"},
      {"model_type", kErase, "model_type is missing"},
      {"architectures", {"LlamaForSequenceClassification"}, "architectures"},
      {"hidden_act", "gelu", "hidden_act is 'gelu'"},
      {"attention_bias", true, "attention_bias is true"},
      {"mlp_bias", true, "mlp_bias is true"},
      {"quantization_config", {{"bits", 4}}, "quantization_config"},
      {"rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8.0}},
       "rope_scaling.type is 'llama3'"},
      {"rope_scaling", {{"type", "dynamic"}, {"factor", 8.0}}, "'dynamic'"},
      {"rope_scaling", {{"factor", 8.0}}, "rope_scaling.type is missing"},
      {"rope_scaling", {{"type", "linear"}}, "factor is missing"},
      {"rope_scaling",
       {{"type", "linear"}, {"factor", 0.5}},
       "rope_scaling.factor is 0.5"},
      {"rope_scaling", "linear", "must be an object"},
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

TEST(LlamaConfigTest, WithRopeFactorChangesNothingElse) {
  ASSERT_OK_AND_ASSIGN(const std::string scaled, WithRopeFactor(kLlama2, 4));
  json expected = json::parse(kLlama2);
  expected["torch_dtype"] = "bfloat16";
  expected["rope_scaling"] = {
      {"rope_type", "linear"}, {"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(json::parse(scaled), expected);
  EXPECT_EQ(ParseLlamaConfig(scaled)->context_tokens(), 16384);
  expected.erase("rope_scaling");
  EXPECT_EQ(json::parse(WithRopeFactor(scaled, 1).value()), expected);
  EXPECT_THAT(WithRopeFactor(kLlama2, 0), StatusIs(kInvalid));
  EXPECT_THAT(WithRopeFactor("{}", 2), StatusIs(kInvalid));

  const std::string newer = Edited(
      "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}});
  ASSERT_OK_AND_ASSIGN(const std::string longer, WithRopeFactor(newer, 4));
  EXPECT_EQ(ParseLlamaConfig(longer)->rope_factor, 4);
  EXPECT_EQ(ParseLlamaConfig(longer)->rope_theta, 5e5);
}

TEST(LlamaConfigTest, ToJsonParsesBack) {
  ASSERT_OK_AND_ASSIGN(LlamaConfig config, ParseLlamaConfig(kLlama2));
  config.rope_factor = 4;
  config.head_dim = 64;
  config.num_kv_heads = 8;
  config.tie_word_embeddings = true;
  ASSERT_OK_AND_ASSIGN(const LlamaConfig back,
                       ParseLlamaConfig(ToJson(config)));
  EXPECT_EQ(ToJson(back), ToJson(config));
  EXPECT_EQ(back.parameter_count(), config.parameter_count());
  EXPECT_EQ(back.rope_factor, 4);
}

}  // namespace
}  // namespace sinklora
