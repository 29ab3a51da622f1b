// RoPE scaling: what config.json says of it, its change to a longer context,
// and its frequencies.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numbers>

#include "common/weights/llama_config.h"
#include "common/weights/rope_frequencies.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

json Base() {
  return {{"model_type", "llama"},         {"hidden_size", 64},
          {"intermediate_size", 96},       {"max_position_embeddings", 4096},
          {"num_attention_heads", 4},      {"num_hidden_layers", 2},
          {"num_key_value_heads", 2},      {"torch_dtype", "float16"},
          {"transformers_version", "5.0"}, {"vocab_size", 100}};
}
std::string With(const char* key, const json& value) {
  json config = Base();
  config[key] = value;
  return config.dump();
}
const json kLlama3 = {{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 512}};
const json kYarn = {{"rope_type", "yarn"}, {"factor", 4.0}};

LlamaConfig Parse(const std::string& text) {
  const auto config = ParseLlamaConfig(text);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(LlamaConfig());
}

TEST(RopeScalingTest, EveryKindInEverySpelling) {
  struct Case {
    json scaling;
    RopeKind kind;
    double factor;
    int64_t context;
  };
  const Case cases[] = {
      {{{"type", "linear"}, {"factor", 8}}, RopeKind::kLinear, 8, 32768},
      {{{"type", "linear"}, {"rope_type", "linear"}, {"factor", 8.0}},
       RopeKind::kLinear,
       8,
       32768},
      {{{"rope_type", "default"}}, RopeKind::kLinear, 1, 4096},
      {{{"rope_type", "dynamic"}, {"factor", 2.0}},
       RopeKind::kDynamic,
       2,
       8192},
      {kYarn, RopeKind::kYarn, 4, 16384},
      {{{"type", "yarn"},
        {"factor", 16.0},
        {"finetuned", true},
        {"original_max_position_embeddings", 256}},
       RopeKind::kYarn,
       16,
       4096},
      {kLlama3, RopeKind::kLlama3, 8, 4096},
  };
  for (const Case& c : cases) {
    json newer = c.scaling;
    newer["rope_theta"] = 5e5;
    json both = json::parse(With("rope_scaling", c.scaling));
    both["rope_parameters"] = c.scaling;
    for (const std::string& text :
         {With("rope_scaling", c.scaling), With("rope_parameters", newer),
          both.dump()}) {
      const LlamaConfig config = Parse(text);
      EXPECT_EQ(config.rope.kind, c.kind) << text;
      EXPECT_EQ(config.rope_factor, c.factor) << text;
      EXPECT_EQ(config.context_tokens(), c.context) << text;
    }
    EXPECT_EQ(Parse(With("rope_parameters", newer)).rope_theta, 5e5);
    EXPECT_EQ(Parse(With("rope_scaling", c.scaling)).rope_theta, 1e4);
  }
  // Without a type this form holds the base alone.
  const LlamaConfig bare =
      Parse(With("rope_parameters", {{"rope_theta", 5e5}}));
  EXPECT_EQ(bare.rope_theta, 5e5);
  EXPECT_EQ(bare.rope_factor, 1);
  json outer = json::parse(With("rope_scaling", kYarn));
  outer["original_max_position_embeddings"] = 1024;
  EXPECT_EQ(Parse(outer.dump()).context_tokens(), 4096);
}

TEST(RopeScalingTest, WhatIsNotSupportedIsNamed) {
  const auto changed = [](json scaling, const char* key, const json& value) {
    scaling[key] = value;
    return scaling;
  };
  const struct {
    json scaling;
    const char* message;
  } cases[] = {
      {{{"type", "longrope"}, {"factor", 8.0}},
       "rope_scaling.rope_type is 'longrope', must be 'default', 'linear'"},
      {{{"type", "su"}, {"factor", 8.0}}, "'su'"},
      {{{"factor", 8.0}}, "rope_scaling.rope_type is missing"},
      {{{"type", "linear"}, {"rope_type", "yarn"}, {"factor", 8.0}},
       "rope_scaling.type is 'linear', but rope_type is 'yarn'"},
      {{{"type", "linear"}}, "rope_scaling.factor is missing"},
      {{{"type", "linear"}, {"factor", 0.5}}, "rope_scaling.factor is 0.5"},
      {{{"type", "linear"}, {"factor", 1e6}}, "must be in [1, 65536]"},
      {{{"type", "linear"}, {"factor", "8"}}, "factor is \"8\""},
      {"linear", "rope_scaling is \"linear\", must be an object"},
      {{{"type", "default"}, {"factor", 8.0}},
       "rope_scaling.factor is 8.0, but default RoPE has no such key"},
      {{{"type", "dynamic"}, {"factor", 2.0}, {"alpha", 1000}},
       "rope_scaling.alpha is 1000, but dynamic RoPE has no such key"},
      {{{"type", "dynamic"},
        {"factor", 2.0},
        {"original_max_position_embeddings", 512}},
       "original_max_position_embeddings is 512, must be "
       "max_position_embeddings 4096 with dynamic RoPE"},
      {changed(kYarn, "low_freq_factor", 1), "low_freq_factor is 1"},
      {changed(kYarn, "partial_rotary_factor", 0.5),
       "rope_scaling.partial_rotary_factor is 0.5, only 1"},
      {changed(kYarn, "beta_fast", -1), "beta_fast is -1"},
      {changed(kYarn, "beta_fast", 0.5), "must be at least beta_slow 1"},
      {changed(kYarn, "beta_slow", 0), "beta_slow is 0"},
      {changed(kYarn, "mscale", -1), "mscale is -1"},
      {changed(kYarn, "mscale_all_dim", "1"), "mscale_all_dim is \"1\""},
      {changed(kYarn, "attention_factor", 0), "attention_factor is 0"},
      {changed(kYarn, "truncate", 1), "truncate is 1"},
      {changed(kYarn, "original_max_position_embeddings", 0),
       "original_max_position_embeddings is 0"},
      {changed(kLlama3, "low_freq_factor", nullptr),
       "low_freq_factor is missing"},
      {changed(kLlama3, "high_freq_factor", nullptr),
       "high_freq_factor is missing"},
      {changed(kLlama3, "high_freq_factor", 1.0),
       "high_freq_factor is 1, must be over low_freq_factor 1"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(ParseLlamaConfig(With("rope_scaling", c.scaling)),
                StatusIs(kInvalid,
                         AllOf(HasSubstr("config.json"), HasSubstr(c.message))))
        << c.scaling;
  }
  EXPECT_THAT(ParseLlamaConfig(With("rope_parameters", {{"factor", 2.0}})),
              StatusIs(kInvalid, HasSubstr("rope_parameters.factor is 2.0")));
  // A base for each kind of layer, as of other architectures.
  EXPECT_THAT(ParseLlamaConfig(With("rope_parameters",
                                    {{"full_attention", {{"factor", 2.0}}}})),
              StatusIs(kInvalid, HasSubstr("rope_parameters.full_attention")));
  json both = json::parse(With("rope_scaling", kYarn));
  both["rope_parameters"] = kLlama3;
  EXPECT_THAT(ParseLlamaConfig(both.dump()),
              StatusIs(kInvalid, HasSubstr("they must agree")));
  json theta = json::parse(With("rope_parameters", {{"rope_theta", 5e5}}));
  theta["rope_theta"] = 1e4;
  EXPECT_THAT(ParseLlamaConfig(theta.dump()),
              StatusIs(kInvalid, HasSubstr("rope_theta is 10000, but")));
  json outer = json::parse(With("rope_scaling", kLlama3));
  outer["original_max_position_embeddings"] = 1024;
  EXPECT_THAT(ParseLlamaConfig(outer.dump()),
              StatusIs(kInvalid, HasSubstr("is 1024, but that of")));
}

TEST(RopeScalingTest, WithRopeFactorChangesNothingElse) {
  const std::string plain = Base().dump();
  ASSERT_OK_AND_ASSIGN(const std::string scaled, WithRopeFactor(plain, 4));
  json expected = Base();
  expected["torch_dtype"] = "bfloat16";
  expected["rope_scaling"] = {
      {"rope_type", "linear"}, {"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(json::parse(scaled), expected);
  EXPECT_EQ(Parse(scaled).context_tokens(), 16384);
  expected.erase("rope_scaling");
  EXPECT_EQ(json::parse(WithRopeFactor(scaled, 1).value()), expected);
  EXPECT_THAT(WithRopeFactor(plain, 0), StatusIs(kInvalid));
  EXPECT_THAT(WithRopeFactor(plain, NAN), StatusIs(kInvalid));
  EXPECT_THAT(WithRopeFactor("{}", 2), StatusIs(kInvalid));

  json newer = Base();
  newer["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  newer["dtype"] = "float32";
  ASSERT_OK_AND_ASSIGN(const std::string longer,
                       WithRopeFactor(newer.dump(), 4));
  EXPECT_EQ(Parse(longer).rope_factor, 4);
  EXPECT_EQ(Parse(longer).rope_theta, 5e5);
  EXPECT_EQ(json::parse(longer)["dtype"], "bfloat16");
  // The base is not lost with the object that held it.
  ASSERT_OK_AND_ASSIGN(
      const std::string kept,
      WithRopeFactor(
          With("rope_scaling",
               {{"type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}}),
          1));
  EXPECT_EQ(Parse(kept).rope_theta, 5e5);
}

TEST(RopeScalingTest, EachKindIsExtendedAsItIsDefined) {
  const auto extended = [](const char* key, const json& scaling,
                           double factor) {
    const auto text = WithRopeFactor(With(key, scaling), factor);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? json::parse(*text) : json();
  };
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json yarn = extended(key, kYarn, 8);
    EXPECT_EQ(yarn[key]["factor"], 8);
    EXPECT_EQ(yarn[key]["original_max_position_embeddings"], 4096);
    EXPECT_EQ(yarn["max_position_embeddings"], 32768);
    EXPECT_EQ(Parse(yarn.dump()).context_tokens(), 32768);
    EXPECT_EQ(Parse(yarn.dump()).rope.original_context, 4096);
    const json dynamic =
        extended(key, {{"rope_type", "dynamic"}, {"factor", 2.0}}, 3);
    EXPECT_EQ(dynamic["max_position_embeddings"], 4096);
    EXPECT_EQ(Parse(dynamic.dump()).context_tokens(), 12288);
    EXPECT_EQ(extended(key, kLlama3, 8)[key], kLlama3);
  }
  EXPECT_EQ(extended("rope_scaling", kYarn, 4)["rope_scaling"], kYarn);
  EXPECT_THAT(WithRopeFactor(With("rope_scaling", kLlama3), 16),
              StatusIs(kInvalid, HasSubstr("rope factor is 16, must be 8: "
                                           "llama3 scaling")));
  json fixed = kYarn;
  fixed["attention_factor"] = 1.2;
  EXPECT_THAT(WithRopeFactor(With("rope_scaling", fixed), 8),
              StatusIs(kInvalid, HasSubstr("attention_factor 1.2")));
  EXPECT_OK(WithRopeFactor(With("rope_scaling", fixed), 4).status());
}

// The ends of each rule; the middle is compared with transformers in
// architecture_golden_test.cc.
TEST(RopeFrequenciesTest, LimitsOfEveryKind) {
  const auto of = [](const json& scaling, int64_t length) {
    const LlamaConfig config = Parse(With("rope_scaling", scaling));
    return ComputeRopeFrequencies(config, config.rope_factor, length);
  };
  const auto plain = of({{"rope_type", "default"}}, 1);
  ASSERT_EQ(plain.inverse.size(), 8u);
  EXPECT_DOUBLE_EQ(plain.inverse[0], 1);
  EXPECT_DOUBLE_EQ(plain.inverse[4], 0.01);
  EXPECT_EQ(plain.attention, 1);
  EXPECT_DOUBLE_EQ(of({{"rope_type", "linear"}, {"factor", 8}}, 1).inverse[4],
                   0.00125);

  const json dynamic = {{"rope_type", "dynamic"}, {"factor", 2.0}};
  EXPECT_EQ(of(dynamic, 4096).inverse, plain.inverse);
  EXPECT_EQ(of(dynamic, 1).inverse, plain.inverse);
  // theta * (2 * 2 - 1)^(16 / 14)
  EXPECT_NEAR(of(dynamic, 8192).inverse[4],
              std::pow(1e4 * std::pow(3.0, 16.0 / 14.0), -0.5), 1e-12);
  EXPECT_TRUE(DependsOnLength(Parse(With("rope_scaling", dynamic))));
  EXPECT_FALSE(DependsOnLength(Parse(With("rope_scaling", kYarn))));

  const auto yarn = of(kYarn, 1);
  EXPECT_DOUBLE_EQ(yarn.inverse[0], plain.inverse[0]);
  EXPECT_DOUBLE_EQ(yarn.inverse[7], plain.inverse[7] / 4);
  EXPECT_NEAR(yarn.attention, 0.1 * std::log(4.0) + 1, 1e-15);
  json scaled = kYarn;
  scaled["mscale"] = 0.7;
  EXPECT_EQ(of(scaled, 1).attention, yarn.attention);  // only with the other
  scaled["mscale_all_dim"] = 0.5;
  EXPECT_NEAR(of(scaled, 1).attention,
              (0.07 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1), 1e-15);
  scaled["attention_factor"] = 1.5;
  EXPECT_EQ(of(scaled, 1).attention, 1.5);

  const auto llama3 = of(kLlama3, 1);
  for (size_t i = 0; i < 8; ++i) {
    const double turns = 512 * plain.inverse[i] / (2 * std::numbers::pi);
    if (turns >= 4) {
      EXPECT_DOUBLE_EQ(llama3.inverse[i], plain.inverse[i]);
    }
    if (turns <= 1) {
      EXPECT_DOUBLE_EQ(llama3.inverse[i], plain.inverse[i] / 8);
    }
  }
}

}  // namespace
}  // namespace sinklora
