// Models on the CUDA backend over an emulated GPU, whose memory the host cannot
// touch: nothing in the model reads device memory but through copies, and the
// results are those of the CPU.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "tests/common/model/serving_fixture.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora {
namespace {

std::unique_ptr<kernels::Backend> OpenEmulated() {
  std::unique_ptr<kernels::Backend> out;
  const kernels::Status status = emulation::OpenEmulated(&out);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

// Loss before each of some steps.
std::vector<double> Losses(kernels::Backend* backend, const ModelFiles& files,
                           const TrainingOptions& options) {
  std::vector<double> out;
  auto run = TrainingRun::Create(backend, files, options);
  EXPECT_TRUE(run.ok()) << run.status();
  if (!run.ok()) return out;
  const std::vector<TrainingExample> examples = {
      RandomExample({31, 20}, 48, 1)};
  for (int i = 0; i < 3; ++i) {
    auto metrics = (*run)->Step(examples, nullptr);
    EXPECT_TRUE(metrics.ok()) << metrics.status();
    if (metrics.ok()) out.push_back(metrics->loss);
  }
  return out;
}

TEST(CudaModelTest, TrainsAsTheCpuDoes) {
  for (const kernels::DType dtype :
       {kernels::DType::kF32, kernels::DType::kBF16}) {
    for (const bool full_parameter : {false, true}) {
      // Tied and not: an embedding that is not the head too has gradients in
      // the rows of the tokens alone.
      const ModelOnDisk model = MakeModel(SmallConfig(full_parameter), 1);
      TrainingOptions options = SmallTrainingOptions();
      options.matrix_dtype = dtype;
      options.full_parameter = full_parameter;
      const auto cpu = OpenTestBackend("cpu");
      const auto cuda = OpenEmulated();
      const auto want = Losses(cpu.get(), *model.files, options);
      const auto got = Losses(cuda.get(), *model.files, options);
      ASSERT_EQ(got.size(), want.size());
      const double tolerance = dtype == kernels::DType::kF32 ? 1e-4 : 2e-2;
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_TRUE(std::abs(got[i] - want[i]) <= tolerance * want[i])
            << got[i] << " on CUDA, " << want[i] << " on the CPU";
      }
      // Equal bits each time.
      EXPECT_EQ(Losses(cuda.get(), *model.files, options), got);
    }
  }
}

double LargestDifference(const Trace& a, const Trace& b) {
  double largest = a.logits.size() == b.logits.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.logits.size(), b.logits.size()); ++i) {
    for (size_t j = 0; j < a.logits[i].size(); ++j) {
      const double difference = std::abs(a.logits[i][j] - b.logits[i][j]);
      if (!(difference <= largest)) largest = difference;
    }
  }
  return largest;
}

TEST(CudaModelTest, ServesAsTheCpuDoes) {
  const std::vector<int32_t> tokens = RandomTokens(40, 48, 77);
  for (const WeightType type : {WeightType::kFloat32, WeightType::kInt8}) {
    const Served cpu = Serve(SmallConfig(true), 1, type);
    const Served cuda = ServeOn(OpenEmulated(), SmallConfig(true), 1, type);
    for (ResolvedCache cache : {FullCache(), H2oCache(8, 2, 10)}) {
      const bool int8 = type == WeightType::kInt8;
      if (int8) cache.storage = CacheStorage::kInt8;
      const Trace want = RunSequence(cpu, cache, tokens, 30, 30);
      const Trace got = RunSequence(cuda, cache, tokens, 30, 30);
      EXPECT_LE(LargestDifference(got, want), int8 ? 0.1 : 1e-3);
      // Chunks do not change bits here either.
      EXPECT_EQ(RunSequence(cuda, cache, tokens, 30, 7), got);
    }
  }
}

}  // namespace
}  // namespace sinklora
