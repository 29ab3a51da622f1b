// SPDX-License-Identifier: Apache-2.0
#include "services/inference/model_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/services/inference/core_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ModelManagerTest : public CoreTest {};

TEST_F(ModelManagerTest, LoadsOnceAndSharesTheBaseWeights) {
  const auto base = Target({"tiny", "", 0});
  EXPECT_EQ(Target({"tiny", "", 0}), base);
  EXPECT_EQ(sample_.source->downloads(), 1);
  const auto tuned = Target({"tiny", "tuned", 0});
  EXPECT_EQ(tuned->base, base->base);
  EXPECT_EQ(sample_.source->downloads(), 2);
  EXPECT_EQ(base->model->context_tokens(), kTinyContextTokens);
  EXPECT_EQ(tuned->model->context_tokens(), kTunedContextTokens);
  EXPECT_EQ(tuned->model->rope_factor(), 2.0);
  EXPECT_GT(tuned->weight_bytes(), 0);
  EXPECT_EQ(metrics_->loaded_models->Value(), 2);
}

TEST_F(ModelManagerTest, AnAdapterChangesWhatIsSaid) {
  ASSERT_OK_AND_ASSIGN(const Collected base, Generate(Params(20)));
  ASSERT_OK_AND_ASSIGN(const Collected tuned,
                       Generate(Params(20), {"tiny", "tuned", 0}));
  EXPECT_NE(base.ids, tuned.ids);
}

TEST_F(ModelManagerTest, ALongerContextIsServedOnRequest) {
  const auto longer = Target({"tiny", "", 1024});
  EXPECT_EQ(longer->model->context_tokens(), 1024);
  EXPECT_EQ(longer->model->rope_factor(), 4.0);
  EXPECT_THAT(models_->Acquire({"tiny", "", 255}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("255"), HasSubstr("256"))));
  EXPECT_THAT(
      models_->Acquire({"tiny", "", 2 << 20}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1048576")));
  EXPECT_THAT(models_->Acquire({"tiny", "tuned", 512}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("context_tokens")));
}

TEST_F(ModelManagerTest, NamesTheUnknownAndTheMalformed) {
  EXPECT_THAT(models_->Acquire({"absent", "", 0}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(models_->Acquire({"tiny", "absent", 0}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(
      models_->Acquire({"../etc", "", 0}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("target.model")));
  EXPECT_THAT(models_->Acquire({"", "", 0}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ModelManagerTest, AnAdapterOfAnotherBaseIsRefused) {
  EXPECT_THAT(models_->Acquire({"other", "tuned", 0}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("tuned"), HasSubstr("other"))));
  // The same name with other weights is another base as well.
  ASSERT_OK(WriteTinyVariant(sample_.Path("tiny2"), 3));
  ASSERT_OK(sample_.source->AddModel("tiny", sample_.Path("tiny2")));
  EXPECT_THAT(
      models_->Acquire({"tiny", "tuned", 0}),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("digest")));
}

TEST_F(ModelManagerTest, ServesTheNewWeightsOfAReplacedModel) {
  ASSERT_OK_AND_ASSIGN(const Collected before, Generate(Params(20)));
  ASSERT_OK(WriteTinyVariant(sample_.Path("tiny2"), 3));
  ASSERT_OK(sample_.source->AddModel("tiny", sample_.Path("tiny2")));
  ASSERT_OK_AND_ASSIGN(const Collected after, Generate(Params(20)));
  EXPECT_NE(before.ids, after.ids);
  sample_.source->RemoveModel("tiny");
  EXPECT_THAT(Generate(Params(20)), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(metrics_->loaded_models->Value(), 0);
}

TEST_F(ModelManagerTest, WithoutRegistryOnlyWhatIsLoadedIsServed) {
  const auto target = Target();
  sample_.source->SetUnreachable(true);
  EXPECT_THAT(models_->Acquire({"other", "", 0}),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(Target(), target);
  EXPECT_GE(metrics_->registry_errors->Value(), 1);
  sample_.source->SetUnreachable(false);
  EXPECT_OK(models_->Acquire({"other", "", 0}));
}

TEST_F(ModelManagerTest, AnUnreachableRegistryIsLeftAloneForAWhile) {
  Target();
  sample_.source->SetUnreachable(true);
  Target();
  const double errors = metrics_->registry_errors->Value();
  Target();
  EXPECT_EQ(metrics_->registry_errors->Value(), errors);
  clock_.AdvanceSeconds(6);
  Target();
  EXPECT_EQ(metrics_->registry_errors->Value(), errors + 1);
}

TEST_F(ModelManagerTest, ARestartUsesTheLocalCopyUnlessItIsDamaged) {
  const std::string digest = Target()->base->digest;
  ASSERT_EQ(sample_.source->downloads(), 1);
  Start({});
  Target();
  EXPECT_EQ(sample_.source->downloads(), 1);

  const std::string weights =
      sample_.Path("cache/models/" + digest + "/model.safetensors");
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(weights));
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_OK(WriteFileAtomic(weights, bytes));
  Start({});
  Target();
  EXPECT_EQ(sample_.source->downloads(), 2);
  ASSERT_OK_AND_ASSIGN(const std::string again, ReadFile(weights));
  EXPECT_NE(again, bytes);
}

TEST_F(ModelManagerTest, ABrokenModelIsNamedAndLeavesNothingLoaded) {
  ASSERT_OK(WriteTinyVariant(sample_.Path("broken"), 4));
  ASSERT_OK(WriteFileAtomic(sample_.Path("broken/config.json"), "{"));
  ASSERT_OK(sample_.source->AddModel("broken", sample_.Path("broken")));
  const auto broken = models_->Acquire({"broken", "", 0});
  EXPECT_FALSE(broken.ok());
  EXPECT_THAT(std::string(broken.status().message()), HasSubstr("config.json"));
  EXPECT_EQ(metrics_->loaded_models->Value(), 0);
  EXPECT_OK(Generate(Params(3)));
}

TEST_F(ModelManagerTest, UnloadingFreesTheMemoryAfterTheLastRequest) {
  Target({"tiny", "tuned", 0});
  auto held = Target();
  ASSERT_OK(models_->Unload({"tiny", "", 0}));
  ASSERT_OK(models_->Unload({"tiny", "", 0}));
  EXPECT_TRUE(models_->List().empty());
  const auto allocated = [&] {
    int64_t bytes = 0;
    EXPECT_OK(engine_->RunInternal([&](kernels::Backend* backend) {
      bytes = backend->allocated_bytes();
      return absl::OkStatus();
    }));
    return bytes;
  };
  EXPECT_GT(allocated(), 0);
  held.reset();
  // The release is queued before this task; that of the base follows it.
  allocated();
  EXPECT_EQ(allocated(), 0);
}

TEST_F(ModelManagerTest, WhatCannotBeLoadedMakesNoRoomForItself) {
  Start({}, /*max_loaded_targets=*/1);
  const TargetSpec idle = {"tiny", "", 0};
  ASSERT_OK(WriteTinyVariant(sample_.Path("broken"), 4));
  ASSERT_OK(WriteFileAtomic(sample_.Path("broken/config.json"), "{"));
  ASSERT_OK(sample_.source->AddModel("broken", sample_.Path("broken")));
  Target(idle);
  const int downloads = sample_.source->downloads();
  for (const TargetSpec& spec :
       {TargetSpec{"broken", "", 0}, TargetSpec{"other", "", 255}}) {
    EXPECT_FALSE(models_->Acquire(spec).ok());
    ASSERT_EQ(models_->List().size(), 1u);
    EXPECT_EQ(models_->List()[0]->spec, idle);
  }
  // Nor is anything fetched where nothing can make room.
  ASSERT_OK_AND_ASSIGN(const auto running, Submit(Params(100)));
  EXPECT_EQ(sample_.source->downloads(), downloads + 2);
  ASSERT_OK(WriteTinyVariant(sample_.Path("third"), 5));
  ASSERT_OK(sample_.source->AddModel("third", sample_.Path("third")));
  EXPECT_THAT(models_->Acquire({"third", "", 0}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(sample_.source->downloads(), downloads + 2);
}

TEST_F(ModelManagerTest, TheIdlestTargetMakesRoom) {
  Start({}, /*max_loaded_targets=*/2);
  Target({"tiny", "", 0});
  Target({"other", "", 0});
  Target({"tiny", "", 0});
  Target({"tiny", "tuned", 0});
  const auto list = models_->List();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]->spec, (TargetSpec{"tiny", "", 0}));
  EXPECT_EQ(list[1]->spec, (TargetSpec{"tiny", "tuned", 0}));
}

}  // namespace
}  // namespace sinklora::inference
