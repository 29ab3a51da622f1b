// The arithmetic of sampling that all backends share: order and weight of a
// logit, and the two thresholds. One rounding a step and no sum of products,
// so that no compiler can round it otherwise; what follows is integers.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_SAMPLING_SAMPLING_WEIGHT_H_
#define SINKLORA_KERNELS_SAMPLING_SAMPLING_WEIGHT_H_

#include <cstdint>

namespace sinklora::kernels {

inline constexpr int kWeightBits = 40;  // of the largest weight, 2^40

// `bits` are those of an f32. Larger logits have larger keys.
constexpr uint32_t RankKey(uint32_t bits) {
  if (bits == 0x80000000u) return bits;  // -0 as +0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
constexpr uint32_t BitsOfRankKey(uint32_t key) {
  return (key >> 31) != 0 ? key & 0x7fffffffu : ~key;
}

// Keys are looked at in digits of 11, 11 and 10 bits, the highest first.
inline constexpr int kDigitBits = 11;
inline constexpr int kDigitBins = 1 << kDigitBits;
inline constexpr int kFirstShift = 32 - kDigitBits;
constexpr int NextShift(int shift) {
  return shift > kDigitBits ? shift - kDigitBits : 0;
}

// NaN or +Inf.
constexpr bool IsBadLogit(uint32_t bits) {
  return (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u;
}

// What turns a gap between logits into powers of two. Finite for any
// temperature > 0, so that a gap of 0 stays 0.
constexpr double GapFactor(double temperature) {
  constexpr double kLargest = 1e290;
  const double factor = 1.4426950408889634 / temperature;
  return factor < kLargest ? factor : kLargest;
}

// 2^(kWeightBits - gap * factor), rounded down but for 2^-29 of it. gap =
// largest logit - logit, in double.
constexpr uint64_t SampleWeight(double gap, double factor) {
  const double halvings = gap * factor;
  if (!(halvings < kWeightBits + 1)) return 0;  // NaN: Inf * 0
  const auto fixed = static_cast<uint64_t>(halvings * 4294967296.0);
  const uint64_t x = fixed & 0xffffffffu;
  // 2^-x = 1 - x (c1 - x (c2 - ...)), c_k = ln(2)^k / k! in units of 2^-32.
  uint64_t sum = 2;  // c11
  sum = 30 - (sum * x >> 32);
  sum = 437 - (sum * x >> 32);
  sum = 5676 - (sum * x >> 32);
  sum = 65510 - (sum * x >> 32);
  sum = 661577 - (sum * x >> 32);
  sum = 5726720 - (sum * x >> 32);
  sum = 41309550 - (sum * x >> 32);
  sum = 238388332 - (sum * x >> 32);
  sum = 1031764991 - (sum * x >> 32);
  sum = 2977044472 - (sum * x >> 32);  // c1
  const uint64_t power = (uint64_t{1} << 32) - (sum * x >> 32);
  return power << (kWeightBits - 32) >> (fixed >> 32);
}

// The least weight of a nucleus; total > 0.
constexpr uint64_t NucleusThreshold(uint64_t total, double top_p) {
  if (top_p >= 1) return total;
  const double wanted = top_p * static_cast<double>(total);
  auto least = static_cast<uint64_t>(wanted);
  if (static_cast<double>(least) < wanted) ++least;
  if (least < 1) return 1;
  return least < total ? least : total;
}

// What the chosen token and all before it weigh at least; nucleus > 0.
constexpr uint64_t DrawThreshold(uint64_t nucleus, double draw) {
  const auto drawn = static_cast<uint64_t>(draw * static_cast<double>(nucleus));
  return (drawn < nucleus ? drawn : nucleus - 1) + 1;
}

// Of tokens with one logit, each of `weight` > 0, behind others that weigh
// `before` < threshold: how many, at least 1, reach the threshold.
constexpr uint64_t TiesToReach(uint64_t threshold, uint64_t before,
                               uint64_t weight) {
  return (threshold - before + weight - 1) / weight;
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_SAMPLING_SAMPLING_WEIGHT_H_
