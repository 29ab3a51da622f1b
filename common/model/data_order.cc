// SPDX-License-Identifier: Apache-2.0
#include "common/base/random.h"
#include "common/model/training_run.h"

namespace sinklora {
namespace {

// Keeps data order apart from other uses of the same seed; the epoch is added.
constexpr uint64_t kDataOrderStream = uint64_t{0x4f524452} << 32;

}  // namespace

std::vector<int64_t> ExamplesOfStep(uint64_t seed, int64_t num_examples,
                                    int64_t examples_per_step, int64_t step) {
  std::vector<int64_t> out;
  if (num_examples <= 0) return out;
  out.reserve(static_cast<size_t>(examples_per_step));
  std::vector<int64_t> order;
  int64_t order_epoch = -1;
  const int64_t first = step * examples_per_step;
  for (int64_t i = first; i < first + examples_per_step; ++i) {
    const int64_t epoch = i / num_examples;
    if (epoch != order_epoch) {
      order = Permutation(seed, kDataOrderStream + static_cast<uint64_t>(epoch),
                          num_examples);
      order_epoch = epoch;
    }
    out.push_back(order[static_cast<size_t>(i % num_examples)]);
  }
  return out;
}

}  // namespace sinklora
