// Times of the ops that matter on this GPU: CUDA events around one call, the L2
// cache emptied before each, the median of many.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_BENCHMARKS_H_
#define SINKLORA_TESTS_GPU_BENCHMARKS_H_

#include <string>
#include <vector>

#include "kernels/cuda/cuda_context.h"

namespace sinklora::gpu_check {

struct Measurement {
  std::string table;  // "attention", "decode", "matmul"
  std::string what;
  int samples = 0;
  double median_ms = 0, least_ms = 0;
  double rate = 0;
  std::string unit;  // of rate: "TFLOP/s" (of live pairs), "GB/s"
};

// Runs until `deadline_seconds` from now at most, then leaves out the rest and
// says so on stderr. Tables go to stdout as they are made.
kernels::Status RunBenchmarks(kernels::cuda::CudaContext* context,
                              double deadline_seconds,
                              std::vector<Measurement>* out);

std::string ToJson(const std::vector<Measurement>& all);

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_BENCHMARKS_H_
