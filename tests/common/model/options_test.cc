// SPDX-License-Identifier: Apache-2.0
#include "common/model/options.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/model/training_run.h"
#include "tests/common/model/model_fixture.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

TEST(AttentionOptionsTest, ShiftedHeadsFollowTheTable) {
  AttentionOptions o;
  const auto shifted = [&o](PatternKind pattern, double ratio) {
    o.pattern = pattern;
    o.return_ratio = ratio;
    return ShiftedHeads(o, 32);
  };
  EXPECT_EQ(shifted(PatternKind::kFull, 0.5), 0);
  EXPECT_EQ(shifted(PatternKind::kShort, 0.5), 0);
  EXPECT_EQ(shifted(PatternKind::kS2, 0.5), 16);
  EXPECT_EQ(shifted(PatternKind::kS2Sinks, 0.9), 16);
  EXPECT_EQ(shifted(PatternKind::kSf, 0), 16);
  EXPECT_EQ(shifted(PatternKind::kSf, 0.5), 8);
  EXPECT_EQ(shifted(PatternKind::kSf, 1), 0);
  EXPECT_EQ(shifted(PatternKind::kSegmentReassemble, 0.5), 8);
  o.return_ratio = 0.5;
  EXPECT_EQ(ShiftedHeads(o, 6), 2);  // 1.5 rounds away from zero
}

TEST(AttentionOptionsTest, GroupSizes) {
  AttentionOptions o;
  EXPECT_EQ(GroupSize(o, 2048), 512);
  EXPECT_EQ(GroupSize(o, 2049), 513);
  EXPECT_EQ(GroupSize(o, 1), 1);
  o.group_size_tokens = 128;
  EXPECT_EQ(GroupSize(o, 2048), 128);
  o.pattern = PatternKind::kFull;
  EXPECT_EQ(GroupSize(o, 2048), 2048);
}

TEST(AttentionOptionsTest, RejectsByName) {
  const auto rejects = [](auto change, const char* field) {
    AttentionOptions o;
    change(&o);
    EXPECT_THAT(Validate(o),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  rejects([](auto* o) { o->group_ratio = 0; }, "group_ratio is 0");
  rejects([](auto* o) { o->group_ratio = NAN; }, "group_ratio");
  rejects([](auto* o) { o->group_size_tokens = 1; }, "group_size_tokens is 1");
  rejects([](auto* o) { o->return_ratio = 1.5; }, "return_ratio is 1.5");
  rejects([](auto* o) { o->sink_tokens = -1; }, "sink_tokens is -1");
  rejects([](auto* o) { o->full_below_tokens = -1; }, "full_below_tokens");
  EXPECT_OK(Validate(AttentionOptions()));
}

TEST(TrainingOptionsTest, RejectsByName) {
  const auto rejects = [](auto change, const char* field) {
    TrainingOptions o = SmallTrainingOptions();
    change(&o);
    EXPECT_THAT(Validate(o, SmallConfig(true)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  rejects([](auto* o) { o->context_tokens = 0; }, "context_tokens is 0");
  rejects([](auto* o) { o->steps = 0; }, "steps is 0");
  rejects([](auto* o) { o->micro_batch_examples = 0; }, "micro_batch_examples");
  rejects([](auto* o) { o->accumulation_steps = -2; }, "accumulation_steps");
  rejects([](auto* o) { o->lora.rank = 0; }, "lora.rank is 0");
  rejects([](auto* o) { o->lora.target_modules = {}; }, "target_modules");
  rejects([](auto* o) { o->lora.target_modules = {"lm_head"}; }, "lm_head");
  rejects(
      [](auto* o) {
        o->lora.target_modules = {"q_proj", "q_proj"};
      },
      "once");
  rejects([](auto* o) { o->optimizer.learning_rate = NAN; }, "learning_rate");
  rejects([](auto* o) { o->optimizer.beta2 = 1; }, "beta2 is 1");
  rejects([](auto* o) { o->optimizer.clip_norm = -1; }, "clip_norm is -1");
  EXPECT_OK(Validate(SmallTrainingOptions(), SmallConfig(true)));
}

TEST(LearningRateTest, WarmsUpThenStaysOrFalls) {
  OptimizerOptions o;
  o.learning_rate = 1.0;
  o.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(LearningRate(o, 0, 100), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(o, 3, 100), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(o, 99, 100), 1.0);
  o.schedule = LrScheduleKind::kCosine;
  o.min_learning_rate = 0.1;
  EXPECT_DOUBLE_EQ(LearningRate(o, 4, 104), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(o, 54, 104), 0.55);
  EXPECT_NEAR(LearningRate(o, 104, 104), 0.1, 1e-12);
  for (int step = 5; step < 104; ++step) {
    EXPECT_LT(LearningRate(o, step, 104), LearningRate(o, step - 1, 104));
  }
  o.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(LearningRate(o, 0, 100), 1.0);
}

TEST(RopeFactorTest, ScalesOnlyBeyondTheBase) {
  LlamaConfig base = SmallConfig(true);
  base.max_position_embeddings = 4096;
  const auto factor = [&base](int64_t context) {
    const auto out = RopeFactorFor(base, context);
    EXPECT_TRUE(out.ok()) << out.status();
    return out.value_or(-1);
  };
  EXPECT_DOUBLE_EQ(factor(1024), 1.0);
  EXPECT_DOUBLE_EQ(factor(4096), 1.0);
  EXPECT_DOUBLE_EQ(factor(10240), 2.5);
  for (const RopeKind kind :
       {RopeKind::kLinear, RopeKind::kDynamic, RopeKind::kYarn}) {
    base.rope.kind = kind;
    base.rope.original_context = 4096;
    base.rope_factor = 2.0;  // context 8192 already
    EXPECT_DOUBLE_EQ(factor(8192), 2.0);
    EXPECT_DOUBLE_EQ(factor(16384), 4.0);
    // As an adapter tuned it.
    EXPECT_DOUBLE_EQ(RopeFactorFor(base, 16384, 4, 8192).value(), 4.0);
    EXPECT_DOUBLE_EQ(RopeFactorFor(base, 16384, 4, 32768).value(), 8.0);
  }
}

TEST(RopeFactorTest, WhatCannotBeExtendedIsRefusedByName) {
  LlamaConfig base = SmallConfig(true);
  base.max_position_embeddings = 4096;
  base.rope.kind = RopeKind::kLlama3;
  base.rope.original_context = 512;
  base.rope_factor = 8;
  const auto refused = [](const char* reason) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(reason));
  };
  EXPECT_DOUBLE_EQ(RopeFactorFor(base, 4096).value(), 8.0);
  EXPECT_THAT(RopeFactorFor(base, 8192).status(),
              refused("context_tokens 8192: rope factor is 16, must be 8: "
                      "llama3 scaling defines no other for a context beyond "
                      "its 4096 tokens"));
  EXPECT_THAT(RopeFactorFor(base, 4096, 4, 1024).status(),
              refused("rope factor is 4, must be 8"));
  TrainingOptions options = SmallTrainingOptions();
  options.context_tokens = 8192;
  EXPECT_THAT(Validate(options, base), refused("context_tokens 8192"));
  base.rope.kind = RopeKind::kYarn;
  base.rope.attention_factor = 1.1;
  EXPECT_DOUBLE_EQ(RopeFactorFor(base, 4096).value(), 8.0);
  EXPECT_THAT(RopeFactorFor(base, 8192).status(), refused("attention_factor"));
}

TEST(ExamplesOfStepTest, EveryEpochIsAFreshPermutation) {
  constexpr int64_t kExamples = 10;
  std::vector<int64_t> all;
  for (int64_t step = 0; step < 15; ++step) {  // 6 epochs in steps of 4
    const auto chosen = ExamplesOfStep(3, kExamples, 4, step);
    ASSERT_EQ(chosen.size(), 4u);
    all.insert(all.end(), chosen.begin(), chosen.end());
  }
  std::set<std::vector<int64_t>> orders;
  for (int epoch = 0; epoch < 6; ++epoch) {
    std::vector<int64_t> order(all.begin() + epoch * kExamples,
                               all.begin() + (epoch + 1) * kExamples);
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < kExamples; ++i) EXPECT_EQ(order[i], i);
  }
  EXPECT_EQ(orders.size(), 6u);
  EXPECT_EQ(ExamplesOfStep(3, kExamples, 4, 7), ExamplesOfStep(3, 10, 4, 7));
  EXPECT_NE(ExamplesOfStep(3, 1000, 4, 7), ExamplesOfStep(4, 1000, 4, 7));
  // More examples a step than there are: the epochs follow each other.
  EXPECT_EQ(ExamplesOfStep(3, 2, 5, 0).size(), 5u);
}

}  // namespace
}  // namespace sinklora
