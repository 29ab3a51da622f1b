// Compares what a GPU computes with the double reference, and keeps score.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_CHECKER_H_
#define SINKLORA_TESTS_GPU_CHECKER_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/gpu/host_data.h"
#include "tests/testing/tolerance.h"

namespace sinklora::gpu_check {

// Runs an op on the backend and returns its outputs; called for both backends
// with the same inputs.
using RunOp =
    std::function<kernels::Status(kernels::Backend&, std::vector<HostData>*)>;

class Checker {
 public:
  Checker(kernels::Backend* gpu, kernels::Backend* reference)
      : gpu_(gpu), reference_(reference) {}

  // Tolerance i is of output i; all zero means the same bits. Also runs the GPU
  // twice: the bits must not differ.
  void Check(const std::string& op, const std::string& shape, const RunOp& run,
             const std::vector<testing::Tolerance>& tolerances);
  // A property of the GPU's own results: empty, or what is wrong.
  void Property(const std::string& op, const std::string& shape,
                const std::string& wrong);

  kernels::Backend& gpu() { return *gpu_; }
  // Prints a line for each op; whether all checks passed.
  bool Summarise() const;
  // A JSON array with an object for each op.
  std::string ToJson() const;

 private:
  struct Score {
    int passed = 0, failed = 0;
    double worst = 0;  // largest error as a share of what is allowed
    std::string first_failure;
  };
  void Note(const std::string& op, const std::string& shape,
            const std::string& wrong, double share);

  kernels::Backend* const gpu_;
  kernels::Backend* const reference_;
  std::map<std::string, Score> scores_;
};

// Every op over a sweep of shapes. `quick`: few and small ones, for a run under
// a memory checker.
void CheckAllOps(Checker* checker, bool quick);
void CheckAttentionOps(Checker* checker, bool quick);

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_CHECKER_H_
