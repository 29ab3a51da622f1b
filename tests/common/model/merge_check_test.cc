// SPDX-License-Identifier: Apache-2.0
#include "common/model/merge_check.h"

#include "common/weights/adapter_export.h"
#include "tests/common/model/adapter_goldens.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class MergeCheckTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto golden = AdapterGolden::Load(GetParam());
    ASSERT_OK(golden);
    golden_ = std::move(*golden);
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    out_ = JoinPath(temp_->path(), "merged");
    adapter_out_ = JoinPath(temp_->path(), "adapter");
    base_ = golden_.base->directory();
  }
  // The model in out_, with `adapter` (may be null), on the golden's tokens.
  void ExpectGoldenLogits(const PeftAdapter* adapter, double tolerance) {
    ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(out_));
    ASSERT_OK_AND_ASSIGN(
        const auto weights,
        BaseWeights::Load(backend_.get(), *files, WeightType::kFloat32));
    ASSERT_OK_AND_ASSIGN(const auto model,
                         ServedModel::Create(weights, adapter, 0));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> logits,
                         AllLogits(model, golden_.ids));
    EXPECT_TRUE(LogitsNear(logits, golden_.logits, tolerance));
  }
  std::unique_ptr<kernels::Backend> backend_ = OpenTestBackend("cpu");
  AdapterGolden golden_;
  std::unique_ptr<TempDir> temp_;
  std::string base_, out_, adapter_out_;
};

INSTANTIATE_TEST_SUITE_P(All, MergeCheckTest,
                         ::testing::ValuesIn(kGoldenAdapters),
                         [](const auto& info) { return info.param; });

TEST_P(MergeCheckTest, MergedModelsAreWithinTheBound) {
  ASSERT_OK_AND_ASSIGN(
      const MergeCheck check,
      MergeAndCheck(backend_.get(), base_, golden_.adapter, out_));
  EXPECT_EQ(check.probe_tokens, 64);
  EXPECT_GT(check.max_abs_logit_difference, 0);
  EXPECT_GT(check.max_relative_layer_difference, 0);
  EXPECT_LE(check.max_relative_logit_difference, check.relative_logit_bound);
  EXPECT_LE(check.max_relative_layer_difference, check.relative_layer_bound);
  // With a bound of 1 everything would pass.
  EXPECT_LT(check.relative_logit_bound, 1);
  ExpectGoldenLogits(nullptr, check.relative_logit_bound);
  // The same again.
  ASSERT_OK_AND_ASSIGN(
      const MergeCheck again,
      CheckMerge(backend_.get(), base_, golden_.adapter, out_));
  EXPECT_EQ(again.max_abs_logit_difference, check.max_abs_logit_difference);
}

TEST_P(MergeCheckTest, SplitModelsAreWithinTheBound) {
  ASSERT_OK_AND_ASSIGN(const MergeCheck check,
                       SplitAndCheck(backend_.get(), base_, golden_.adapter,
                                     adapter_out_, out_));
  EXPECT_LE(check.max_relative_logit_difference, check.relative_logit_bound);
  ASSERT_OK_AND_ASSIGN(
      const PeftAdapter lora,
      ReadPeftAdapter(adapter_out_, ModelFiles::Open(out_)->get()->config()));
  EXPECT_TRUE(lora.full.empty());
  ExpectGoldenLogits(&lora, check.relative_logit_bound);
}

// A merge that does something else than it should.
TEST_P(MergeCheckTest, WrongMergesAreFound) {
  const auto expect_found = [&](const PeftAdapter& wrong, const char* what) {
    ASSERT_OK(RemoveAll(out_));
    ASSERT_OK(MergeAdapter(base_, wrong, out_)) << what;
    EXPECT_THAT(CheckMerge(backend_.get(), base_, golden_.adapter, out_),
                StatusIs(absl::StatusCode::kDataLoss,
                         AllOf(HasSubstr(out_), HasSubstr("rounding to bf16"))))
        << what;
  };
  PeftAdapter wrong = golden_.adapter;
  wrong.use_rslora = !wrong.use_rslora;
  expect_found(wrong, "rsLoRA mistaken");
  wrong = golden_.adapter;
  wrong.lora_alpha *= -1;
  expect_found(wrong, "sign of the scale");
  wrong = golden_.adapter;
  wrong.context_tokens = 128;
  wrong.rope_factor = 2;
  expect_found(wrong, "RoPE factor");
  if (golden_.adapter.use_dora) {
    wrong = golden_.adapter;
    wrong.use_dora = false;
    wrong.lora_magnitude.clear();
    expect_found(wrong, "magnitudes lost");
  }
  if (!golden_.adapter.full.empty()) {
    wrong = golden_.adapter;
    wrong.full.clear();
    wrong.modules_to_save.clear();
    if (CheckAdapter(wrong, golden_.base->config()).ok()) {
      expect_found(wrong, "tuned modules lost");
    }
  }
}

TEST_P(MergeCheckTest, ErrorsLeaveNothing) {
  PeftAdapter other = golden_.adapter;
  other.lora_b.clear();
  EXPECT_THAT(MergeAndCheck(backend_.get(), base_, other, out_),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(SplitAndCheck(backend_.get(), base_, other, adapter_out_, out_),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(FileExists(out_));
  EXPECT_FALSE(FileExists(adapter_out_));
  ASSERT_OK(MakeDirs(out_));
  EXPECT_THAT(MergeAndCheck(backend_.get(), base_, golden_.adapter, out_),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(out_)));
  EXPECT_TRUE(FileExists(out_));
}

}  // namespace
}  // namespace sinklora
