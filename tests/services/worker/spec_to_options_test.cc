// SPDX-License-Identifier: Apache-2.0
#include "services/worker/spec_to_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora::worker {
namespace {

using sinklora::testing::StatusIs;

trainer::v1::TrainingSpec ResolvedSpec() {
  trainer::v1::TrainingSpec spec;
  spec.set_mode(trainer::v1::TUNING_MODE_LORA);
  spec.set_context_tokens(2048);
  auto* attention = spec.mutable_attention();
  attention->set_pattern(trainer::v1::ATTENTION_PATTERN_SF);
  attention->set_group_ratio(0.125);
  attention->set_return_ratio(0);
  attention->set_sink_tokens(7);
  attention->set_full_below_tokens(64);
  auto* lora = spec.mutable_lora();
  lora->set_rank(4);
  lora->set_lora_alpha(2);
  lora->set_use_rslora(true);
  lora->add_target_modules("down_proj");
  lora->set_freeze_embedding_and_norms(true);
  auto* optimizer = spec.mutable_optimizer();
  optimizer->set_learning_rate(1e-3);
  optimizer->set_warmup_steps(0);
  optimizer->set_schedule(trainer::v1::LR_SCHEDULE_COSINE);
  optimizer->set_min_learning_rate(1e-4);
  optimizer->set_beta1(0.8);
  optimizer->set_beta2(0.7);
  optimizer->set_eps(1e-6);
  optimizer->set_weight_decay(0.1);
  optimizer->set_clip_norm(0);
  spec.set_steps(11);
  spec.set_micro_batch_examples(3);
  spec.set_accumulation_steps(5);
  spec.set_seed(99);
  spec.set_keep_activations(true);
  spec.set_context_parallel(6);
  spec.set_compute_type(trainer::v1::COMPUTE_TYPE_BFLOAT16);
  return spec;
}

TEST(ToTrainingOptionsTest, CarriesEveryField) {
  ASSERT_OK_AND_ASSIGN(const auto options, ToTrainingOptions(ResolvedSpec()));
  EXPECT_FALSE(options.full_parameter);
  EXPECT_EQ(options.context_tokens, 2048);
  EXPECT_EQ(options.attention.pattern, PatternKind::kSf);
  EXPECT_EQ(options.attention.group_ratio, 0.125);
  EXPECT_EQ(options.attention.group_size_tokens, 0);
  EXPECT_EQ(options.attention.return_ratio, 0);
  EXPECT_EQ(options.attention.sink_tokens, 7);
  EXPECT_EQ(options.attention.full_below_tokens, 64);
  EXPECT_EQ(options.lora.rank, 4);
  EXPECT_EQ(options.lora.lora_alpha, 2);
  EXPECT_TRUE(options.lora.use_rslora);
  EXPECT_THAT(options.lora.target_modules, ::testing::ElementsAre("down_proj"));
  EXPECT_TRUE(options.lora.freeze_embedding_and_norms);
  EXPECT_EQ(options.optimizer.learning_rate, 1e-3);
  EXPECT_EQ(options.optimizer.warmup_steps, 0);
  EXPECT_EQ(options.optimizer.schedule, LrScheduleKind::kCosine);
  EXPECT_EQ(options.optimizer.min_learning_rate, 1e-4);
  EXPECT_EQ(options.optimizer.beta1, 0.8);
  EXPECT_EQ(options.optimizer.beta2, 0.7);
  EXPECT_EQ(options.optimizer.eps, 1e-6);
  EXPECT_EQ(options.optimizer.weight_decay, 0.1);
  EXPECT_EQ(options.optimizer.clip_norm, 0);
  EXPECT_EQ(options.steps, 11);
  EXPECT_EQ(options.micro_batch_examples, 3);
  EXPECT_EQ(options.accumulation_steps, 5);
  EXPECT_EQ(options.seed, 99u);
  EXPECT_TRUE(options.keep_activations);
  EXPECT_EQ(options.context_parallel, 6);
  EXPECT_EQ(options.matrix_dtype, kernels::DType::kBF16);
}

TEST(ToTrainingOptionsTest, AJobWithoutContextParallelIsNotCut) {
  auto spec = ResolvedSpec();
  spec.clear_context_parallel();
  ASSERT_OK_AND_ASSIGN(const auto options, ToTrainingOptions(spec));
  EXPECT_EQ(options.context_parallel, 1);
}

TEST(ToTrainingOptionsTest, MapsEveryPattern) {
  const std::pair<trainer::v1::AttentionPattern, PatternKind> patterns[] = {
      {trainer::v1::ATTENTION_PATTERN_FULL, PatternKind::kFull},
      {trainer::v1::ATTENTION_PATTERN_SHORT, PatternKind::kShort},
      {trainer::v1::ATTENTION_PATTERN_S2, PatternKind::kS2},
      {trainer::v1::ATTENTION_PATTERN_S2_SINKS, PatternKind::kS2Sinks},
      {trainer::v1::ATTENTION_PATTERN_SEGMENT_REASSEMBLE,
       PatternKind::kSegmentReassemble},
      {trainer::v1::ATTENTION_PATTERN_SF, PatternKind::kSf}};
  for (const auto& [proto, kind] : patterns) {
    auto spec = ResolvedSpec();
    spec.mutable_attention()->set_pattern(proto);
    ASSERT_OK_AND_ASSIGN(const auto options, ToTrainingOptions(spec));
    EXPECT_EQ(options.attention.pattern, kind);
  }
  auto spec = ResolvedSpec();
  spec.mutable_attention()->set_pattern(
      static_cast<trainer::v1::AttentionPattern>(99));
  EXPECT_THAT(ToTrainingOptions(spec),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ToTrainingExampleTest, RefusesListsThatDoNotFit) {
  curator::v1::Example example;
  EXPECT_THAT(ToTrainingExample(example),
              StatusIs(absl::StatusCode::kInvalidArgument));
  for (const int32_t id : {4, 5, 6}) example.add_token_ids(id);
  example.set_supervised(std::string("\0\1\1", 3));
  example.add_document_tokens(3);
  ASSERT_OK_AND_ASSIGN(const auto converted, ToTrainingExample(example));
  EXPECT_THAT(converted.token_ids, ::testing::ElementsAre(4, 5, 6));
  EXPECT_THAT(converted.supervised, ::testing::ElementsAre(0, 1, 1));
  EXPECT_THAT(converted.document_tokens, ::testing::ElementsAre(3));
  example.set_document_tokens(0, 2);
  const auto refused = ToTrainingExample(example);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(GetErrorDetail(refused.status()).reason, "INVALID_EXAMPLE");
}

}  // namespace
}  // namespace sinklora::worker
