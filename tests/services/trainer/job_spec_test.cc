// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/job_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

using sinklora::testing::StatusIs;
using ::testing::HasSubstr;

// A valid spec with the fields of `extra` (text format) on top.
v1::TrainingSpec Parse(const std::string& extra) {
  v1::TrainingSpec spec;
  spec.set_base_model("base");
  spec.set_dataset("data");
  spec.set_output_name("tuned");
  spec.set_steps(10);
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(extra, &spec))
      << extra;
  return spec;
}

TEST(ResolveOptionsTest, FillsEveryDefault) {
  ASSERT_OK_AND_ASSIGN(const auto spec, ResolveOptions(Parse("")));
  EXPECT_EQ(spec.mode(), v1::TUNING_MODE_LORA);
  EXPECT_EQ(spec.attention().pattern(), v1::ATTENTION_PATTERN_SF);
  EXPECT_EQ(spec.attention().group_ratio(), 0.25);
  EXPECT_EQ(spec.attention().return_ratio(), 0.5);
  EXPECT_EQ(spec.attention().sink_tokens(), 4);
  EXPECT_EQ(spec.lora().rank(), 8);
  EXPECT_EQ(spec.lora().lora_alpha(), 16);
  EXPECT_THAT(spec.lora().target_modules(),
              ::testing::ElementsAre("q_proj", "k_proj", "v_proj", "o_proj"));
  EXPECT_EQ(spec.optimizer().learning_rate(), 2e-5);
  EXPECT_EQ(spec.optimizer().warmup_steps(), 20);
  EXPECT_EQ(spec.optimizer().schedule(), v1::LR_SCHEDULE_CONSTANT);
  EXPECT_EQ(spec.optimizer().beta1(), 0.9);
  EXPECT_EQ(spec.optimizer().beta2(), 0.95);
  EXPECT_EQ(spec.optimizer().eps(), 1e-8);
  EXPECT_TRUE(spec.optimizer().has_weight_decay());
  EXPECT_EQ(spec.optimizer().clip_norm(), 1);
  EXPECT_EQ(spec.micro_batch_examples(), 1);
  EXPECT_EQ(spec.accumulation_steps(), 1);
  EXPECT_EQ(spec.context_parallel(), 1);
  EXPECT_EQ(spec.workers(), 1);
  EXPECT_EQ(spec.validation_examples(), 16);
  EXPECT_EQ(spec.compute_type(), v1::COMPUTE_TYPE_FLOAT32);
  // A resolved spec resolves to itself.
  ASSERT_OK_AND_ASSIGN(const auto again, ResolveOptions(spec));
  EXPECT_EQ(again.SerializeAsString(), spec.SerializeAsString());
}

TEST(ResolveOptionsTest, FullParameterModeHasNoLora) {
  ASSERT_OK_AND_ASSIGN(const auto spec,
                       ResolveOptions(Parse("mode: TUNING_MODE_FULL")));
  EXPECT_FALSE(spec.has_lora());
}

TEST(ResolveOptionsTest, KeepsWhatIsGiven) {
  ASSERT_OK_AND_ASSIGN(
      const auto spec,
      ResolveOptions(Parse("attention { pattern: ATTENTION_PATTERN_SF "
                           "group_size_tokens: 32 return_ratio: 0 } "
                           "context_parallel: 2 workers: 4 "
                           "accumulation_steps: 2 "
                           "optimizer { warmup_steps: 0 beta1: 0 clip_norm: 0 "
                           "schedule: LR_SCHEDULE_COSINE "
                           "min_learning_rate: 1e-6 }")));
  EXPECT_EQ(spec.attention().group_size_tokens(), 32);
  EXPECT_EQ(spec.attention().return_ratio(), 0);
  EXPECT_EQ(spec.context_parallel(), 2);
  EXPECT_EQ(spec.workers(), 4);
  EXPECT_EQ(spec.optimizer().warmup_steps(), 0);
  EXPECT_EQ(spec.optimizer().beta1(), 0);
  EXPECT_EQ(spec.optimizer().clip_norm(), 0);
}

struct Refusal {
  const char* extra;
  const char* field;
  const char* value;
};

class RefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesFieldAndValue) {
  const auto resolved = ResolveOptions(Parse(GetParam().extra));
  ASSERT_THAT(resolved, StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr(GetParam().field)));
  EXPECT_THAT(std::string(resolved.status().message()),
              HasSubstr(GetParam().value));
}

INSTANTIATE_TEST_SUITE_P(
    Refusals, RefusalTest,
    ::testing::Values(
        Refusal{"base_model: 'Bad/Name'", "base_model", "Bad/Name"},
        Refusal{"dataset: ''", "dataset", ""},
        Refusal{"output_name: '../x'", "output_name", "../x"},
        Refusal{"steps: 0", "steps", "0"},
        Refusal{"steps: 10000001", "steps", "10000001"},
        Refusal{"mode: TUNING_MODE_FULL lora { rank: 4 }", "lora", "given"},
        Refusal{"context_tokens: -1", "context_tokens", "-1"},
        Refusal{"context_tokens: 1048577", "context_tokens", "1048577"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_FULL group_ratio: 0.5 "
                "}",
                "attention.group_ratio", "0.5"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_FULL "
                "group_size_tokens: 64 }",
                "attention.group_size_tokens", "64"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_FULL return_ratio: "
                "0.5 }",
                "attention.return_ratio", "0.5"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_S2 return_ratio: 0.5 "
                "}",
                "attention.return_ratio", "S2"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_S2 sink_tokens: 4 }",
                "attention.sink_tokens", "4"},
        Refusal{"attention { pattern: ATTENTION_PATTERN_FULL "
                "full_below_tokens: 9 }",
                "attention.full_below_tokens", "9"},
        Refusal{"attention { group_ratio: 0 }", "attention.group_ratio", "0"},
        Refusal{"attention { group_ratio: 1.5 }", "attention.group_ratio",
                "1.5"},
        Refusal{"attention { group_ratio: nan }", "attention.group_ratio",
                "nan"},
        Refusal{"attention { group_size_tokens: 1 }",
                "attention.group_size_tokens", "1"},
        Refusal{"attention { return_ratio: 1.1 }", "attention.return_ratio",
                "1.1"},
        Refusal{"attention { return_ratio: nan }", "attention.return_ratio",
                "nan"},
        Refusal{"attention { sink_tokens: 0 }", "attention.sink_tokens", "0"},
        Refusal{"attention { sink_tokens: 1025 }", "attention.sink_tokens",
                "1025"},
        Refusal{"context_parallel: -1", "context_parallel", "-1"},
        Refusal{"context_parallel: 65", "context_parallel", "[1, 64]"},
        Refusal{"context_parallel: 2 attention { pattern: "
                "ATTENTION_PATTERN_FULL }",
                "context_parallel is 2", "FULL"},
        Refusal{"context_parallel: 2 attention { group_size_tokens: 7 }",
                "attention.sink_tokens is 4", "<= 3"},
        Refusal{"workers: -1", "workers", "-1"},
        Refusal{"workers: 65 accumulation_steps: 65", "workers", "[1, 64]"},
        Refusal{"workers: 5 accumulation_steps: 2 context_parallel: 2",
                "workers is 5", "<= 4"},
        Refusal{"lora { rank: 257 }", "lora.rank", "257"},
        Refusal{"lora { rank: -1 }", "lora.rank", "-1"},
        Refusal{"lora { lora_alpha: -2 }", "lora.lora_alpha", "-2"},
        Refusal{"lora { lora_alpha: 1e7 }", "lora.lora_alpha", "1e6"},
        Refusal{"lora { lora_alpha: inf }", "lora.lora_alpha", "inf"},
        Refusal{"lora { target_modules: 'lm_head' }", "lora.target_modules",
                "lm_head"},
        Refusal{"lora { target_modules: ['q_proj', 'q_proj'] }",
                "lora.target_modules", "q_proj"},
        Refusal{"optimizer { learning_rate: 1.5 }", "optimizer.learning_rate",
                "1.5"},
        Refusal{"optimizer { learning_rate: nan }", "optimizer.learning_rate",
                "nan"},
        Refusal{"optimizer { warmup_steps: -1 }", "optimizer.warmup_steps",
                "-1"},
        Refusal{"optimizer { min_learning_rate: 1e-6 }",
                "optimizer.min_learning_rate", "COSINE"},
        Refusal{"optimizer { schedule: LR_SCHEDULE_COSINE learning_rate: 0.1 "
                "min_learning_rate: 0.2 }",
                "optimizer.min_learning_rate", "0.2"},
        Refusal{"optimizer { beta1: 1 }", "optimizer.beta1", "1"},
        Refusal{"optimizer { beta2: -0.1 }", "optimizer.beta2", "-0.1"},
        Refusal{"optimizer { eps: 0 }", "optimizer.eps", "0"},
        Refusal{"optimizer { weight_decay: -1 }", "optimizer.weight_decay",
                "-1"},
        Refusal{"optimizer { clip_norm: nan }", "optimizer.clip_norm", "nan"},
        Refusal{"micro_batch_examples: 1025", "micro_batch_examples", "1025"},
        Refusal{"accumulation_steps: -3", "accumulation_steps", "-3"},
        Refusal{"checkpoint_every_steps: -1", "checkpoint_every_steps", "-1"},
        Refusal{"validate_every_steps: -1", "validate_every_steps", "-1"},
        Refusal{"validation_examples: -1", "validation_examples", "-1"},
        Refusal{"resume_job: '/etc'", "resume_job", "/etc"}));

TEST(ResolveOptionsTest, RefusesEnumValuesOfANewerClient) {
  v1::TrainingSpec spec = Parse("");
  spec.set_mode(static_cast<v1::TuningMode>(77));
  EXPECT_THAT(ResolveOptions(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("77")));
}

class ResolveInputsTest : public ::testing::Test {
 protected:
  ResolveInputsTest() {
    model_.set_name("base");
    model_.set_tokenizer_digest("t");
    model_.mutable_architecture()->set_context_tokens(512);
    dataset_.set_name("data");
    dataset_.set_tokenizer_digest("t");
    dataset_.mutable_recipe()->set_context_tokens(2048);
    dataset_.mutable_counts()->set_train_examples(1);
  }
  registry::v1::Model model_;
  curator::v1::Dataset dataset_;
  v1::TrainingSpec spec_ = Parse("");
};

TEST_F(ResolveInputsTest, ContextDefaultsToTheLarger) {
  ASSERT_OK(ResolveInputs(model_, dataset_, &spec_));
  EXPECT_EQ(spec_.context_tokens(), 2048);
  dataset_.mutable_recipe()->set_context_tokens(128);
  spec_.set_context_tokens(0);
  ASSERT_OK(ResolveInputs(model_, dataset_, &spec_));
  EXPECT_EQ(spec_.context_tokens(), 512);
}

TEST_F(ResolveInputsTest, RefusesWhatDoesNotFit) {
  spec_.set_context_tokens(1024);
  EXPECT_THAT(ResolveInputs(model_, dataset_, &spec_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2048")));
  spec_.set_context_tokens(0);
  spec_.set_validate_every_steps(5);
  EXPECT_THAT(ResolveInputs(model_, dataset_, &spec_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("validate_every_steps")));
  spec_.set_validate_every_steps(0);
  dataset_.mutable_counts()->set_train_examples(0);
  EXPECT_EQ(GetErrorDetail(ResolveInputs(model_, dataset_, &spec_)).reason,
            "DATASET_EMPTY");
}

}  // namespace
}  // namespace sinklora::trainer
