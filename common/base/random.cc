// SPDX-License-Identifier: Apache-2.0
#include "common/base/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace sinklora {
namespace {

uint64_t Join(uint32_t low, uint32_t high) {
  return uint64_t{high} << 32 | low;
}

std::array<uint32_t, 4> Block(uint64_t seed, uint64_t stream, uint64_t index) {
  return Philox4x32(
      seed,
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)});
}

double ToUnit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(uint64_t key,
                                   const std::array<uint32_t, 4>& counter) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  std::array<uint32_t, 4> c = counter;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * c[0];
    const uint64_t product1 = kMultiplier1 * c[2];
    c = {static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key0,
         static_cast<uint32_t>(product1),
         static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key1,
         static_cast<uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return c;
}

uint64_t CounterRng::Bits(uint64_t index) const {
  const auto block = Block(seed_, stream_, index);
  return Join(block[0], block[1]);
}

double CounterRng::Uniform(uint64_t index) const { return ToUnit(Bits(index)); }

double CounterRng::Normal(uint64_t index) const {
  // Box-Muller; both uniforms come from one block, and the first is moved to
  // (0, 1] for the logarithm.
  const auto block = Block(seed_, stream_, index);
  const double u = 1.0 - ToUnit(Join(block[0], block[1]));
  const double v = ToUnit(Join(block[2], block[3]));
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t CounterRng::Below(uint64_t index, uint64_t bound) const {
  const auto product = static_cast<unsigned __int128>(Bits(index)) * bound;
  return static_cast<uint64_t>(product >> 64);
}

std::vector<int64_t> Permutation(uint64_t seed, uint64_t stream, int64_t n) {
  std::vector<int64_t> order(n > 0 ? static_cast<size_t>(n) : 0);
  std::iota(order.begin(), order.end(), int64_t{0});
  const CounterRng rng(seed, stream);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[rng.Below(i - 1, i)]);
  }
  return order;
}

}  // namespace sinklora
