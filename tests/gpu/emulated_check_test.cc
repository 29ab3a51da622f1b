// The GPU check itself, on the emulated GPU: that it asks for what is right. It
// must not need a first try on a real one.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "kernels/reference/reference_backend.h"
#include "tests/gpu/checker.h"
#include "tests/gpu/collective_check.h"
#include "tests/kernels/cuda/host_view_backend.h"
#include "tests/testing/cuda_emulation/emulated_communicator.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora::gpu_check {
namespace {

TEST(GpuCheckTest, PassesOnTheEmulatedGpu) {
  std::unique_ptr<kernels::Backend> device;
  const kernels::Status status = emulation::OpenEmulated(&device);
  ASSERT_TRUE(status.ok()) << status.message();
  const auto gpu = kernels::MakeHostViews(std::move(device));
  kernels::ReferenceBackend reference;
  Checker checker(gpu.get(), &reference);
  CheckAllOps(&checker, /*quick=*/true);
  EXPECT_TRUE(checker.Summarise()) << checker.ToJson();
}

TEST(GpuCheckTest, SumsOverEmulatedGpus) {
  std::unique_ptr<kernels::Backend> devices[3];
  std::vector<kernels::Backend*> gpus;
  for (int i = 0; i < 3; ++i) {
    const kernels::Status status =
        emulation::OpenEmulated(&devices[i], nullptr, i);
    ASSERT_TRUE(status.ok()) << status.message();
    gpus.push_back(devices[i].get());
  }
  EXPECT_EQ(CheckCollectives(gpus, 1009), "");
  emulation::FailExchange(2, 1);
  EXPECT_NE(CheckCollectives(gpus, 1009), "");
}

// A comparison that cannot fail would be none.
TEST(GpuCheckTest, SeesAWrongResult) {
  kernels::ReferenceBackend one, other;
  Checker checker(&one, &other);
  const auto run = [&](kernels::Backend& backend, std::vector<HostData>* out) {
    const double value = &backend == &one ? 1.0 : 1.1;
    out->assign(1, HostData(kernels::DType::kF32, {1}));
    (*out)[0].view().as<float>()[0] = static_cast<float>(value);
    return kernels::OkStatus();
  };
  checker.Check("op", "near", run, {{.relative = 0.2}});
  EXPECT_TRUE(checker.Summarise());
  checker.Check("op", "far", run, {{.relative = 0.01}});
  EXPECT_FALSE(checker.Summarise());
}

}  // namespace
}  // namespace sinklora::gpu_check
