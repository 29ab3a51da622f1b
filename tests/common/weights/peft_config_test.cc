// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_config.h"

#include "common/weights/peft_names.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<PeftConfig> Parse(const json& extra) {
  json config = {{"peft_type", "LORA"}, {"target_modules", {"q_proj"}}};
  config.update(extra);
  return ParsePeftConfig(config.dump(), "adapter_config.json");
}

TEST(PeftConfigTest, DefaultsArePefts) {
  ASSERT_OK_AND_ASSIGN(const PeftConfig config,
                       ParsePeftConfig(R"({"peft_type": "LORA"})", "x"));
  EXPECT_EQ(config.rank, 8);
  EXPECT_EQ(config.lora_alpha, 8);
  EXPECT_THAT(config.target_modules.names, ElementsAre("q_proj", "v_proj"));
  EXPECT_FALSE(config.use_rslora);
  EXPECT_FALSE(config.use_dora);
  EXPECT_EQ(config.context_tokens, 0);
}

TEST(PeftConfigTest, ReadsEveryKeyThatMatters) {
  ASSERT_OK_AND_ASSIGN(const PeftConfig config,
                       Parse({{"r", 16},
                              {"lora_alpha", 2.5},
                              {"use_rslora", true},
                              {"use_dora", true},
                              {"ensure_weight_tying", true},
                              {"exclude_modules", ".*o_proj"},
                              {"layers_to_transform", 3},
                              {"layers_pattern", "layers"},
                              {"modules_to_save", {"norm"}},
                              {"base_model_name_or_path", "b"},
                              {"bias", "none"},
                              {"task_type", "CAUSAL_LM"},
                              {"init_lora_weights", "gaussian"},
                              {"lora_dropout", 0.1},
                              {"sinklora_context_tokens", 256},
                              {"sinklora_rope_factor", 4}}));
  EXPECT_EQ(config.rank, 16);
  EXPECT_EQ(config.lora_alpha, 2.5);
  EXPECT_TRUE(config.use_rslora);
  EXPECT_TRUE(config.use_dora);
  EXPECT_TRUE(config.ensure_weight_tying);
  EXPECT_EQ(config.exclude_modules.regex, ".*o_proj");
  EXPECT_THAT(config.layers_to_transform, ElementsAre(3));
  EXPECT_THAT(config.layers_pattern, ElementsAre("layers"));
  EXPECT_THAT(config.modules_to_save, ElementsAre("norm"));
  EXPECT_EQ(config.base_model, "b");
  EXPECT_EQ(config.context_tokens, 256);
  EXPECT_EQ(config.rope_factor, 4);
  const json written = json::parse(ToJson(config));
  EXPECT_EQ(written["lora_dropout"], 0.1);
  EXPECT_EQ(written["init_lora_weights"], "gaussian");
}

// The first pattern that matches counts, so the order of the file stays.
TEST(PeftConfigTest, PatternsKeepTheirOrder) {
  const char text[] = R"({"peft_type": "LORA", "target_modules": "all-linear",
    "rank_pattern": {"z": 1, "a": 2}, "alpha_pattern": {"y": 3.5, "b": 4}})";
  ASSERT_OK_AND_ASSIGN(const PeftConfig config, ParsePeftConfig(text, "x"));
  EXPECT_THAT(config.rank_pattern, ElementsAre(Pair("z", 1), Pair("a", 2)));
  EXPECT_THAT(config.alpha_pattern, ElementsAre(Pair("y", 3.5), Pair("b", 4)));
  EXPECT_EQ(config.target_modules.regex, "all-linear");
  ASSERT_OK_AND_ASSIGN(const PeftConfig again,
                       ParsePeftConfig(ToJson(config), "x"));
  EXPECT_EQ(again.rank_pattern, config.rank_pattern);
  EXPECT_EQ(again.alpha_pattern, config.alpha_pattern);
  EXPECT_EQ(ToJson(again), ToJson(config));
}

// Each is tried on every module: their number is bounded, that of names is not.
TEST(PeftConfigTest, RegularExpressionsAreCounted) {
  const auto patterns = [](int count, const char* tail) {
    json out = json::object();
    for (int i = 0; i < count; ++i) {
      out["layers\\.0.q_" + std::to_string(i) + tail] = 4;
    }
    return out;
  };
  EXPECT_OK(Parse({{"rank_pattern", patterns(4000, "")}}));
  EXPECT_OK(Parse({{"rank_pattern", patterns(128, ".*")},
                   {"alpha_pattern", patterns(128, "(a|b)+")}}));
  EXPECT_THAT(Parse({{"rank_pattern", patterns(128, "\\d")},
                     {"alpha_pattern", patterns(129, "[a]")}}),
              StatusIs(kInvalid, HasSubstr("257 regular expressions")));
}

TEST(PeftConfigTest, RefusesByKeyValueAndReason) {
  struct Case {
    const char* key;
    json value;
    const char* message;
  };
  const Case cases[] = {
      {"peft_type", "IA3", "peft_type \"IA3\" is not supported, only LORA"},
      {"peft_type", nullptr, "peft_type null"},
      {"task_type", "SEQ_CLS", "task_type \"SEQ_CLS\""},
      {"bias", "all", "bias \"all\" is not supported, only none"},
      {"bias", "lora_only", "bias \"lora_only\""},
      {"fan_in_fan_out", true, "fan_in_fan_out true"},
      {"lora_bias", true, "lora_bias true"},
      {"use_qalora", true, "use_qalora true"},
      {"layer_replication",
       {{0, 2}, {1, 2}},
       "layer_replication [[0,2],[1,2]]"},
      {"trainable_token_indices", {3}, "trainable_token_indices [3]"},
      {"target_parameters", {"w"}, "target_parameters [\"w\"]"},
      {"megatron_config", {{"a", 1}}, "megatron_config {\"a\":1}"},
      {"alora_invocation_tokens", {1}, "alora_invocation_tokens [1]"},
      {"arrow_config", {{"a", 1}}, "arrow_config"},
      {"kasa_config", {{"a", 1}}, "kasa_config"},
      {"velora_config", {{"a", 1}}, "velora_config"},
      {"monteclora_config", {{"a", 1}}, "monteclora_config"},
      {"use_bdlora", {{"a", 1}}, "use_bdlora"},
      {"use_something_new", true, "use_something_new true"},
      {"init_lora_weights", "pissa", "init_lora_weights \"pissa\""},
      {"init_lora_weights", "pissa_niter_4", "\"pissa_niter_4\""},
      {"init_lora_weights", "olora", "save_pretrained("},
      {"init_lora_weights", "corda", "\"corda\""},
      {"init_lora_weights", "loftq", "\"loftq\""},
      {"init_lora_weights", "mica", "\"mica\""},
      {"init_lora_weights", 3, "init_lora_weights 3"},
      {"r", 0, "r is 0"},
      {"r", 1.5, "r is 1.5"},
      {"r", 100000, "r is 100000"},
      {"lora_alpha", "x", "lora_alpha"},
      {"rank_pattern", {"q"}, "rank_pattern [\"q\"]"},
      {"rank_pattern", {{"q", 0}}, "rank_pattern is 0"},
      {"rank_pattern", {{"q", nullptr}}, "rank_pattern"},
      {"alpha_pattern", {{"q", "x"}}, "alpha_pattern"},
      {"target_modules", json::array(), "target_modules []"},
      {"target_modules", 3, "target_modules 3"},
      {"target_modules", {3}, "target_modules [3]"},
      {"target_modules", {""}, "target_modules [\"\"]"},
      {"exclude_modules", {3}, "exclude_modules [3]"},
      {"modules_to_save", "norm", "modules_to_save \"norm\""},
      {"layers_to_transform", {-1}, "layers_to_transform is -1"},
      {"layers_to_transform", {"a"}, "layers_to_transform"},
      {"layers_pattern", "layers", "layers_to_transform must be given"},
      {"use_dora", "yes", "use_dora"},
      {"sinklora_context_tokens", -1, "sinklora_context_tokens is -1"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(Parse({{c.key, c.value}}).status(),
                StatusIs(kInvalid, AllOf(HasSubstr("adapter_config.json"),
                                         HasSubstr(c.message))))
        << c.key << " " << c.value;
  }
  EXPECT_THAT(
      Parse({{"target_modules", ".*"}, {"layers_to_transform", {1}}}).status(),
      StatusIs(kInvalid, HasSubstr("target_modules must be a list")));
  EXPECT_THAT(ParsePeftConfig("[]", "x").status(), StatusIs(kInvalid));
}

TEST(PeftConfigTest, KeysThatSwitchNothingOnAreEchoed) {
  ASSERT_OK_AND_ASSIGN(const PeftConfig config,
                       Parse({{"revision", "main"},
                              {"new_group_size", 16},
                              {"use_new", false},
                              {"new_config", json::object()},
                              {"eva_config", {{"rho", 2}}},
                              {"loftq_config", {{"bits", 4}}}}));
  const json written = json::parse(ToJson(config));
  EXPECT_EQ(written["revision"], "main");
  EXPECT_EQ(written["new_group_size"], 16);
  EXPECT_EQ(written["use_new"], false);
  EXPECT_EQ(written["eva_config"], (json{{"rho", 2}}));
}

class ResolveTargetsTest : public ::testing::Test {
 protected:
  // Names of the modules with their ranks: "0.q_proj:8".
  std::vector<std::string> Lora(const json& keys) {
    auto config = Parse(keys);
    EXPECT_OK(config);
    auto targets = ResolveTargets(*config, base_);
    EXPECT_OK(targets);
    std::vector<std::string> out;
    if (!targets.ok()) return out;
    for (const auto& [module, rank] : targets->lora) {
      const size_t dot = module.rfind('.');
      out.push_back(module.substr(13, 1) + module.substr(dot) + ":" +
                    std::to_string(rank));
    }
    return out;
  }
  absl::Status Error(const json& keys) {
    auto config = Parse(keys);
    EXPECT_OK(config);
    return ResolveTargets(*config, base_).status();
  }
  LlamaConfig base_ = testing::TinyModelConfig({});
};

TEST_F(ResolveTargetsTest, NamesRegexAndShorthand) {
  EXPECT_THAT(Lora({{"target_modules", {"q_proj"}}}),
              ElementsAre("0.q_proj:8", "1.q_proj:8"));
  // The end of a dotted name, not of any name.
  EXPECT_THAT(Lora({{"target_modules", {"1.self_attn.v_proj", "mlp.up_proj"}}}),
              ElementsAre("0.up_proj:8", "1.up_proj:8", "1.v_proj:8"));
  EXPECT_THAT(Lora({{"target_modules", ".*1\\..*(q|down)_proj"}}),
              ElementsAre("1.down_proj:8", "1.q_proj:8"));
  EXPECT_EQ(Lora({{"target_modules", "all-linear"}}).size(), 14u);
  EXPECT_EQ(Lora({{"target_modules", "ALL-LINEAR"}}).size(), 14u);
}

TEST_F(ResolveTargetsTest, ExcludedLayersAndSavedModules) {
  const json both = {"q_proj", "k_proj"};
  EXPECT_THAT(Lora({{"target_modules", both}, {"exclude_modules", {"k_proj"}}}),
              ElementsAre("0.q_proj:8", "1.q_proj:8"));
  EXPECT_THAT(Lora({{"target_modules", both}, {"exclude_modules", ".*0.*"}}),
              ElementsAre("1.k_proj:8", "1.q_proj:8"));
  EXPECT_THAT(Lora({{"target_modules", both}, {"layers_to_transform", {1}}}),
              ElementsAre("1.k_proj:8", "1.q_proj:8"));
  // A module that is named in full is taken whatever its layer.
  EXPECT_THAT(
      Lora({{"target_modules", {"q_proj", "model.layers.0.self_attn.k_proj"}},
            {"layers_to_transform", 1}}),
      ElementsAre("0.k_proj:8", "1.q_proj:8"));
  EXPECT_THAT(Lora({{"target_modules", both}, {"modules_to_save", {"k_proj"}}}),
              ElementsAre("0.q_proj:8", "1.q_proj:8"));
}

TEST_F(ResolveTargetsTest, FirstPatternDecidesTheRank) {
  EXPECT_THAT(
      Lora({{"target_modules", {"q_proj", "k_proj"}},
            {"rank_pattern",
             {{"0.self_attn.q_proj", 2}, {"q_proj", 3}, {".*k.*", 5}}}}),
      ElementsAre("0.k_proj:5", "0.q_proj:2", "1.k_proj:5", "1.q_proj:3"));
  // Only the end of a dotted name.
  EXPECT_THAT(Lora({{"rank_pattern", {{"proj", 2}, {"self_attn", 3}}}}),
              ElementsAre("0.q_proj:8", "1.q_proj:8"));
}

TEST_F(ResolveTargetsTest, SavedModulesAreSuffixes) {
  ASSERT_OK_AND_ASSIGN(const PeftConfig config,
                       Parse({{"modules_to_save", {"norm", "lm_head"}}}));
  ASSERT_OK_AND_ASSIGN(const PeftTargets targets,
                       ResolveTargets(config, base_));
  EXPECT_THAT(
      targets.full,
      ElementsAre("lm_head.weight", "model.layers.0.input_layernorm.weight",
                  "model.layers.0.post_attention_layernorm.weight",
                  "model.layers.1.input_layernorm.weight",
                  "model.layers.1.post_attention_layernorm.weight",
                  "model.norm.weight"));
}

TEST_F(ResolveTargetsTest, RefusesByKey) {
  const auto expect = [&](const json& keys, const char* message) {
    EXPECT_THAT(Error(keys), StatusIs(kInvalid, HasSubstr(message))) << keys;
  };
  expect({{"target_modules", {"q_proj", "lm_head"}}},
         "target_modules selects 'lm_head'; LoRA is supported on q_proj");
  expect({{"target_modules", {"embed_tokens"}}}, "'model.embed_tokens'");
  expect({{"target_modules", {"mlp"}}}, "'model.layers.0.mlp'");
  expect({{"target_modules", ".*"}}, "target_modules selects '");
  expect({{"target_modules", {"c_attn"}}}, "selects no module of the base");
  expect({{"target_modules", "("}}, "target_modules: regular expression '('");
  expect({{"rank_pattern", {{"[", 2}}}}, "rank_pattern: regular expression");
  expect({{"exclude_modules", "(?R)"}}, "exclude_modules: regular");
  expect({{"modules_to_save", {"score"}}}, "modules_to_save has 'score'");
  expect({{"modules_to_save", {"_proj"}}}, "both select");
}

}  // namespace
}  // namespace sinklora
