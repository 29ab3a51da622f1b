// What the machine can do at best, measured by small loops on the threads that
// a benchmark uses, at the instruction set that the process is fixed to: the
// limits that results are given as a share of. Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_LIMITS_H_
#define SINKLORA_TESTS_BENCH_LIMITS_H_

#include <time.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace sinklora::bench {

// Wall clock and the CPU time of the process, from construction on.
class Stopwatch {
 public:
  Stopwatch()
      : wall_(Now(CLOCK_MONOTONIC)), cpu_(Now(CLOCK_PROCESS_CPUTIME_ID)) {}
  double wall_seconds() const { return Now(CLOCK_MONOTONIC) - wall_; }
  double cpu_seconds() const { return Now(CLOCK_PROCESS_CPUTIME_ID) - cpu_; }

 private:
  static double Now(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) +
           static_cast<double>(t.tv_nsec) * 1e-9;
  }
  double wall_, cpu_;
};

enum class Limit {
  kF32,     // fused multiply-adds on f32 vectors held in registers, FLOP/s
  kBf16,    // bf16 products in registers by the best instruction there is: of
            // AMX tiles, else dot products (AVX512-BF16), else kF32, FLOP/s
  kRead,    // summing 1 GiB, more than the caches, bytes/s
  kUpdate,  // a = s * a over 1 GiB; the read and the write are counted
  kStream,  // a = b + s * c over 3 x 256 MiB; the 3 are counted, bytes/s
};
std::string_view NameOf(Limit limit);

// One timed stretch of work of known size, in FLOPs or bytes.
struct Sample {
  double amount = 0;
  double wall_seconds = 0;
  double cpu_seconds = 0;  // of all threads of the process
};

// Runs `work`, which returns its amount, and times it.
template <typename Work>
Sample Timed(Work work) {
  const Stopwatch stopwatch;
  Sample out;
  out.amount = work();
  out.wall_seconds = stopwatch.wall_seconds();
  out.cpu_seconds = stopwatch.cpu_seconds();
  return out;
}

struct Rates {
  double wall = 0;  // a second: the median sample
  double best = 0;  // a second: the best one
  // A second that one core was at work: all samples together. Other processes
  // that take the cores away leave it alone; so do threads that wait.
  double cpu = 0;
};
// REQUIRES: not empty.
Rates RatesOf(const std::vector<Sample>& samples);

class Limits {
 public:
  // REQUIRES: a CPU backend was opened before, which fixes the instruction set.
  explicit Limits(int num_threads);
  ~Limits();

  int num_threads() const { return pool_.num_threads(); }
  bool has_bf16_dot() const { return has_bf16_dot_; }

  // Some 40 to 80 ms of measuring in a few windows.
  std::vector<Sample> Measure(Limit limit);

 private:
  double Window(Limit limit);
  double FlopWindow(double (*loop)(int64_t, float*));
  double ReadWindow();
  double UpdateWindow();
  double StreamWindow();

  kernels::cpu::ThreadPool pool_;
  const bool has_bf16_dot_;
  struct Arrays;
  std::unique_ptr<Arrays> arrays_;  // made when bandwidth is first asked for
};

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_LIMITS_H_
