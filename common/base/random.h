// Counter-based randomness: Philox 4x32-10 (Salmon et al. 2011). A value is a
// pure function of (seed, stream, index), so a job that resumes anywhere draws
// exactly what an uninterrupted one would have drawn. Thread-safe (stateless).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_RANDOM_H_
#define SINKLORA_COMMON_BASE_RANDOM_H_

#include <array>
#include <cstdint>
#include <vector>

namespace sinklora {

std::array<uint32_t, 4> Philox4x32(uint64_t key,
                                   const std::array<uint32_t, 4>& counter);

class CounterRng {
 public:
  CounterRng(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  uint64_t Bits(uint64_t index) const;
  double Uniform(uint64_t index) const;  // in [0, 1), 53 bits
  double Normal(uint64_t index) const;   // mean 0, standard deviation 1
  // Uniform in [0, bound), without modulo bias worth naming; bound >= 1.
  uint64_t Below(uint64_t index, uint64_t bound) const;

 private:
  uint64_t seed_;
  uint64_t stream_;
};

// A permutation of [0, n), a function of (seed, stream) alone. Fisher-Yates.
std::vector<int64_t> Permutation(uint64_t seed, uint64_t stream, int64_t n);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_RANDOM_H_
