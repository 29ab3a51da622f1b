// WorkerE2eTest on two GPUs, emulated ones.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_WORKER_WORKER_GPU_FIXTURE_H_
#define SINKLORA_TESTS_SERVICES_WORKER_WORKER_GPU_FIXTURE_H_

#include <memory>
#include <utility>
#include <vector>

#include "tests/services/worker/worker_fixture.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora::testing {

class WorkerGpuTest : public WorkerE2eTest {
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

 private:
  std::vector<std::unique_ptr<kernels::Backend>> gpus_;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_WORKER_WORKER_GPU_FIXTURE_H_
