// How bench_kernels times one op: iterations on the wall clock, between two
// measurements of the limit that bounds the op.
//
// Counters of every benchmark:
//   rate       FLOP/s or bytes/s of the median iteration
//   limit      the limit around it, median of its windows
//   share      rate / limit
//   cpu_rate   FLOPs or bytes a second that one core was at work
//   cpu_share  share by CPU time in place of the wall clock: what to read where
//              other processes take the cores away; blind to waiting threads
//   extra_MiB  resident memory that the first call took beyond its operands
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_OP_BENCH_H_
#define SINKLORA_TESTS_BENCH_OP_BENCH_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/bench/limits.h"

namespace sinklora::bench {

// What one call of an op does, and what bounds it.
struct Work {
  double amount = 0;  // FLOPs or bytes, as the limit is counted
  Limit limit = Limit::kF32;
};

// A device tensor of small random values, ids or zeros. Throws
// std::runtime_error when memory is short.
class Tensor {
 public:
  Tensor() = default;
  // Uniform in [-1, 1), the same for equal shapes.
  static Tensor Random(kernels::Backend* backend, kernels::DType dtype,
                       std::initializer_list<int64_t> shape);
  static Tensor Zeros(kernels::Backend* backend, kernels::DType dtype,
                      std::initializer_list<int64_t> shape);
  // f32.
  static Tensor Floats(kernels::Backend* backend,
                       std::initializer_list<int64_t> shape,
                       const std::function<float(int64_t)>& value_of);
  static Tensor Ints(kernels::Backend* backend,
                     std::initializer_list<int64_t> shape,
                     const std::function<int32_t(int64_t)>& value_of);

  kernels::TensorView view() const { return view_; }
  double bytes() const { return static_cast<double>(buffer_.size_bytes()); }

 private:
  kernels::Buffer buffer_;
  kernels::TensorView view_;
};

// Benchmarks of one process. Each opens its own backend, so that it finds no
// scratch memory of others.
struct Suite {
  kernels::BackendOptions options;
  Limits* limits;
};

// Prepares the operands and returns the op; called once a run.
struct PreparedOp {
  Work work;
  std::function<kernels::Status()> run;
};
using PrepareOp = std::function<PreparedOp(kernels::Backend*)>;

// Declares the benchmark `name`. An op that the backend refuses is reported as
// an error of that benchmark, with the op's own words.
void Register(const Suite& suite, const std::string& name, PrepareOp prepare);

// The families of ops.
void RegisterAttention(const Suite& suite);
void RegisterMatMul(const Suite& suite);
void RegisterCache(const Suite& suite);
void RegisterTrainingOps(const Suite& suite);

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_OP_BENCH_H_
