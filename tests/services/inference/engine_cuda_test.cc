// The engine on the CUDA backend over an emulated GPU: steps that are repeated
// from a record, and those that the GPU refuses to record.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/services/inference/core_fixture.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"
#include "tests/testing/cuda_emulation/runtime.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {
namespace {

class CudaEngineTest : public CoreTest {
 protected:
  ~CudaEngineTest() override {
    emulation::Fail(emulation::Call::kInstantiate, -1);
  }
  std::unique_ptr<kernels::Backend> OpenBackend() override {
    std::unique_ptr<kernels::Backend> backend;
    EXPECT_OK(emulation::OpenEmulated(&backend));
    return backend;
  }
  // How often `kind` was counted since the engine started.
  double Steps(StepKind kind) const {
    return metrics_->decode_steps(kind)->Value();
  }
  double AllSteps() const {
    return Steps(StepKind::kRun) + Steps(StepKind::kRecorded) +
           Steps(StepKind::kRepeated) + Steps(StepKind::kRefused);
  }
};

TEST_F(CudaEngineTest, ARefusedRecordChangesNoTokenAndIsCounted) {
  ASSERT_OK_AND_ASSIGN(const Collected want, Generate(Params(12, 20)));
  EXPECT_GT(Steps(StepKind::kRepeated), 0);
  EXPECT_EQ(Steps(StepKind::kRefused), 0);
  EXPECT_EQ(AllSteps(), 11);
  Start({});
  emulation::Fail(emulation::Call::kInstantiate, 0);
  ASSERT_OK_AND_ASSIGN(const Collected got, Generate(Params(12, 20)));
  EXPECT_EQ(got.ids, want.ids);
  EXPECT_EQ(Steps(StepKind::kRefused), 1);
  EXPECT_EQ(AllSteps(), 11);
}

}  // namespace
}  // namespace sinklora::inference
