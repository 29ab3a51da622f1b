// SPDX-License-Identifier: Apache-2.0
#include "common/model/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/base/random.h"
#include "common/base/status.h"

namespace sinklora {
namespace {

// Keeps the draws of sampling apart from other uses of the same seed.
constexpr uint64_t kSamplingStream = 0x53414d504c45;

absl::Status NonFinite(size_t id, float logit) {
  return MakeError(
      absl::StatusCode::kInternal,
      fmt::format("logit of token {} is {}, must be finite", id, logit),
      {"NON_FINITE_LOGITS", {{"token_id", fmt::format("{}", id)}}});
}

// The largest logit; ties go to the smaller id. Minus infinity is a legal way
// to forbid a token, but not all of them.
absl::StatusOr<int32_t> ArgMax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) ||
        logits[i] == std::numeric_limits<float>::infinity()) {
      return NonFinite(i, logits[i]);
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (std::isinf(logits[best])) return NonFinite(best, logits[best]);
  return static_cast<int32_t>(best);
}

// Ids of the `count` largest logits, descending, ties by id.
std::vector<int32_t> Ranked(std::span<const float> logits, size_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&logits](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), before);
  ids.resize(count);
  return ids;
}

}  // namespace

absl::Status Validate(const SamplingOptions& options) {
  if (!(options.temperature >= 0 && options.temperature <= 10)) {
    return absl::InvalidArgumentError(fmt::format(
        "temperature is {}, must be in [0, 10]", options.temperature));
  }
  if (options.top_k < 0) {
    return absl::InvalidArgumentError(
        fmt::format("top_k is {}, must be >= 0", options.top_k));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return absl::InvalidArgumentError(
        fmt::format("top_p is {}, must be in (0, 1]", options.top_p));
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> SampleToken(std::span<const float> logits,
                                    const SamplingOptions& options,
                                    int64_t index) {
  SL_RETURN_IF_ERROR(Validate(options));
  if (logits.empty()) {
    return absl::InvalidArgumentError("logits are empty, need at least one");
  }
  SL_ASSIGN_OR_RETURN(const int32_t best, ArgMax(logits));
  if (options.temperature == 0) return best;

  size_t count = logits.size();
  if (options.top_k > 0) count = std::min<size_t>(count, options.top_k);
  const std::vector<int32_t> ids = Ranked(logits, count);
  std::vector<double> cumulative(count);
  double total = 0;
  for (size_t i = 0; i < count; ++i) {
    const double gap = static_cast<double>(logits[ids[i]]) - logits[best];
    total += std::exp(gap / options.temperature);
    cumulative[i] = total;
  }
  // The nucleus: the shortest prefix with at least top_p of the probability.
  const auto nucleus = std::lower_bound(cumulative.begin(), cumulative.end(),
                                        options.top_p * total);
  const size_t last = std::min<size_t>(nucleus - cumulative.begin(), count - 1);
  const double draw = CounterRng(options.seed, kSamplingStream)
                          .Uniform(static_cast<uint64_t>(index)) *
                      cumulative[last];
  const auto chosen =
      std::upper_bound(cumulative.begin(), cumulative.begin() + last + 1, draw);
  return ids[std::min<size_t>(chosen - cumulative.begin(), last)];
}

}  // namespace sinklora
