// SPDX-License-Identifier: Apache-2.0
#include "common/model/sampler.h"

#include <fmt/format.h>

#include "common/base/random.h"
#include "common/base/status.h"

namespace sinklora {
namespace {

// Keeps the draws of sampling apart from other uses of the same seed.
constexpr uint64_t kSamplingStream = 0x53414d504c45;

absl::Status Check(const SampleRequest& request) {
  SL_RETURN_IF_ERROR(Validate(request.options));
  if (request.logits.empty() || request.logits.shape[0] == 0) {
    return absl::InvalidArgumentError("logits are empty, need at least one");
  }
  return absl::OkStatus();
}

kernels::SampleRow RowOf(const SampleRequest& request) {
  const SamplingOptions& options = request.options;
  return {.logits = request.logits,
          .temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .draw = CounterRng(options.seed, kSamplingStream)
                      .Uniform(static_cast<uint64_t>(request.index))};
}

absl::Status NonFinite(kernels::Backend* backend,
                       const kernels::ConstTensorView& logits, int32_t id) {
  float logit = 0;
  SL_RETURN_IF_KERNEL_ERROR(
      backend->CopyToHost(logits.as<float>() + id, &logit, sizeof(logit)));
  return MakeError(
      absl::StatusCode::kInternal,
      fmt::format("logit of token {} is {}, must be finite", id, logit),
      {"NON_FINITE_LOGITS", {{"token_id", fmt::format("{}", id)}}});
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

std::vector<absl::StatusOr<int32_t>> SampleTokens(
    kernels::Backend* backend, std::span<const SampleRequest> requests) {
  std::vector<absl::StatusOr<int32_t>> out;
  std::vector<kernels::SampleRow> rows;
  std::vector<size_t> taken;
  for (const SampleRequest& request : requests) {
    const absl::Status status = Check(request);
    if (status.ok()) {
      taken.push_back(out.size());
      rows.push_back(RowOf(request));
      out.emplace_back(0);
    } else {
      out.emplace_back(status);
    }
  }
  std::vector<int32_t> ids(rows.size());
  const absl::Status status =
      ToAbsl(backend->SampleTokens({.rows = rows, .ids = ids.data()}));
  for (size_t r = 0; r < rows.size(); ++r) {
    absl::StatusOr<int32_t>& outcome = out[taken[r]];
    if (!status.ok()) {
      outcome = status;
    } else if (ids[r] < 0) {
      outcome = NonFinite(backend, rows[r].logits, -1 - ids[r]);
    } else {
      outcome = ids[r];
    }
  }
  return out;
}

}  // namespace sinklora
