// SPDX-License-Identifier: Apache-2.0
#include "common/weights/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sinklora {
namespace {

std::vector<double> Plain(double theta, int64_t head_dim) {
  std::vector<double> out(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::pow(
        theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  }
  return out;
}

double DynamicTheta(const LlamaConfig& c, double factor, int64_t length) {
  const double original = static_cast<double>(c.max_position_embeddings);
  const double reached = std::max(static_cast<double>(length), original);
  const double dim = static_cast<double>(c.head_dim);
  return c.rope_theta *
         std::pow(factor * reached / original - (factor - 1), dim / (dim - 2));
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double YarnAttention(const RopeScaling& rope, double factor) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return YarnScale(factor, rope.mscale) /
           YarnScale(factor, rope.mscale_all_dim);
  }
  return YarnScale(factor, 1.0);
}

// The (fractional) pair that turns `rotations` times over the original context.
double YarnPair(const LlamaConfig& c, double rotations) {
  const double original = static_cast<double>(c.rope.original_context);
  return static_cast<double>(c.head_dim) *
         std::log(original / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(c.rope_theta));
}

// Fast pairs stay, slow ones are interpolated, a ramp between.
void ScaleYarn(const LlamaConfig& c, double factor,
               std::vector<double>* inverse) {
  double low = YarnPair(c, c.rope.beta_fast);
  double high = YarnPair(c, c.rope.beta_slow);
  if (c.rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(c.head_dim - 1));
  if (low == high) high += 0.001;  // no division by 0
  for (size_t i = 0; i < inverse->size(); ++i) {
    const double interpolated =
        std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    (*inverse)[i] *= interpolated / factor + (1.0 - interpolated);
  }
}

void ScaleLlama3(const RopeScaling& rope, double factor,
                 std::vector<double>* inverse) {
  const double original = static_cast<double>(rope.original_context);
  for (double& x : *inverse) {
    const double rotations = original * x / (2.0 * std::numbers::pi);
    if (rotations > rope.high_freq_factor) continue;
    const double kept =
        std::max(0.0, (rotations - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor));
    x *= (1.0 - kept) / factor + kept;
  }
}

}  // namespace

RopeFrequencies ComputeRopeFrequencies(const LlamaConfig& config, double factor,
                                       int64_t length) {
  RopeFrequencies out;
  out.inverse = Plain(config.rope_theta, config.head_dim);
  switch (config.rope.kind) {
    case RopeKind::kLinear:
      for (double& x : out.inverse) x /= factor;
      break;
    case RopeKind::kDynamic:
      out.inverse =
          Plain(DynamicTheta(config, factor, length), config.head_dim);
      break;
    case RopeKind::kYarn:
      ScaleYarn(config, factor, &out.inverse);
      out.attention = YarnAttention(config.rope, factor);
      break;
    case RopeKind::kLlama3:
      ScaleLlama3(config.rope, factor, &out.inverse);
      break;
  }
  return out;
}

}  // namespace sinklora
