// Jobs of a worker with two GPUs, emulated ones.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/services/worker/worker_gpu_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using trainer::v1::TrainingJob;

class WorkerDevicesTest : public WorkerGpuTest {
 protected:
  // One optimizer step of this many micro-steps, each on so many devices.
  TrainingJob RunStep(const std::string& output, int accumulation_steps,
                      int context_parallel = 1,
                      const std::string& outcome = "succeeded") {
    auto spec = Spec(output);
    spec.set_steps(1);
    spec.set_micro_batch_examples(1);
    spec.set_accumulation_steps(accumulation_steps);
    spec.set_context_parallel(context_parallel);
    const TrainingJob job = Submit(spec);
    EXPECT_EQ(RunNextJob(), outcome);
    return Job(job.name());
  }
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

TEST_F(WorkerDevicesTest, DevicesShareASequence) {
  const TrainingJob cut = RunStep("cut", 1, 2);
  EXPECT_EQ(cut.resolved().context_parallel(), 2);
  EXPECT_EQ(cut.plan().devices(), 2);
  EXPECT_EQ(cut.metrics().total_tokens(), kContextTokens);
  ASSERT_OK(Adapter("cut"));
  const TrainingJob whole = RunStep("whole", 1);
  EXPECT_NEAR(cut.metrics().loss(), whole.metrics().loss(),
              1e-5 * whole.metrics().loss());
  EXPECT_LT(cut.plan().predicted_peak_bytes(),
            whole.plan().predicted_peak_bytes());
}

TEST_F(WorkerDevicesTest, RefusesToShareASequenceWithDevicesThatAreNotThere) {
  devices_.pop_back();
  const TrainingJob job = RunStep("alone", 1, 2, "failed");
  EXPECT_EQ(job.error_reason(), "DEVICES_DO_NOT_FIT");
  EXPECT_THAT(job.state_reason(), AllOf(HasSubstr("context_parallel is 2"),
                                        HasSubstr("devices of the worker, 1")));
}

}  // namespace
}  // namespace sinklora::testing
