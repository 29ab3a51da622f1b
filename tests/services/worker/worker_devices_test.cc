// Jobs of a worker with two GPUs, emulated ones.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/services/worker/worker_fixture.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using trainer::v1::TrainingJob;

class WorkerDevicesTest : public WorkerE2eTest {
 protected:
  void SetUp() override {
    WorkerE2eTest::SetUp();
    devices_.clear();
    for (int i = 0; i < 2; ++i) {
      std::unique_ptr<kernels::Backend> gpu;
      ASSERT_OK(ToAbsl(emulation::OpenEmulated(&gpu, nullptr, i)));
      devices_.push_back(gpu.get());
      gpus_.push_back(std::move(gpu));
    }
  }

  // One optimizer step of this many micro-steps.
  TrainingJob RunStep(const std::string& output, int accumulation_steps) {
    auto spec = Spec(output);
    spec.set_steps(1);
    spec.set_micro_batch_examples(1);
    spec.set_accumulation_steps(accumulation_steps);
    const TrainingJob job = Submit(spec);
    EXPECT_EQ(RunNextJob(), "succeeded");
    return Job(job.name());
  }

  std::vector<std::unique_ptr<kernels::Backend>> gpus_;
};

TEST_F(WorkerDevicesTest, DevicesShareTheMicroSteps) {
  const TrainingJob both = RunStep("both", 2);
  EXPECT_EQ(both.plan().devices(), 2);
  EXPECT_THAT(both.plan().backend(),
              AllOf(HasSubstr("cuda:0, "), HasSubstr("; cuda:1, ")));
  EXPECT_EQ(both.metrics().total_tokens(), 2 * kContextTokens);
  ASSERT_OK(Adapter("both"));
  // The same examples on one of them.
  devices_.pop_back();
  const TrainingJob one = RunStep("one", 2);
  EXPECT_EQ(one.plan().devices(), 1);
  EXPECT_NEAR(one.metrics().loss(), both.metrics().loss(),
              1e-9 * one.metrics().loss());
}

TEST_F(WorkerDevicesTest, ADeviceWithoutAMicroStepStaysIdle) {
  const TrainingJob job = RunStep("idle", 1);
  EXPECT_EQ(job.plan().devices(), 1);
  EXPECT_THAT(job.plan().backend(),
              AllOf(HasSubstr("cuda:0"), Not(HasSubstr("cuda:1"))));
}

}  // namespace
}  // namespace sinklora::testing
