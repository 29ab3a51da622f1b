// The parts of bench_step: a training step, the prefill of a prompt, and
// decoding, through the API that the worker and the inference service use.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_STEP_BENCH_H_
#define SINKLORA_TESTS_BENCH_STEP_BENCH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/options.h"
#include "common/model/weight_type.h"
#include "kernels/backend.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/limits.h"
#include "tests/bench/report.h"

namespace sinklora::bench {

struct Machine {
  kernels::Backend* backend;
  Limits* limits;
};

struct TrainBench {
  std::string pattern = "sf";  // full, short, s2, s2_sinks, sr, sf
  double group_ratio = 0.25;
  int64_t batch = 1;
  int64_t steps = 3;  // after one that warms up
  int64_t lora_rank = 8;
  bool all_linear = false;  // LoRA on the MLP too
  bool full_parameter = false;
  bool keep_activations = false;
  bool freeze_embedding_and_norms = false;
  kernels::DType dtype = kernels::DType::kBF16;
};
// One example of model.config's context a micro-batch row.
absl::StatusOr<Report> BenchTraining(const Machine& machine, BenchModel* model,
                                     const TrainBench& options);

struct PrefillBench {
  int64_t prompt = 512;
  int64_t repetitions = 3;  // after one that warms up
  WeightType weight_type = WeightType::kBfloat16;
};
absl::StatusOr<Report> BenchPrefill(const Machine& machine, BenchModel* model,
                                    const PrefillBench& options);

struct DecodeBench {
  int64_t prompt = 16;
  int64_t tokens = 64;  // of every sequence, in all rounds together
  int64_t rounds = 4;   // the policies take turns
  int64_t batch = 1;    // sequences
  // full, h2o, streaming, window; with several, the first one's rate is
  // compared with each other's, round by round.
  std::vector<std::string> caches = {"full"};
  double budget_ratio = 0.2;  // of the prompt, for all but full
  WeightType weight_type = WeightType::kBfloat16;
};
absl::StatusOr<Report> BenchDecode(const Machine& machine, BenchModel* model,
                                   const DecodeBench& options);

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_STEP_BENCH_H_
