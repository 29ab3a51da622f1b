// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/model/options.h"

namespace sinklora {
namespace {

constexpr int64_t kDefaultSinkTokens = 4;

const char* NameOf(CachePolicyKind policy) {
  switch (policy) {
    case CachePolicyKind::kFull:
      return "full";
    case CachePolicyKind::kSlidingWindow:
      return "sliding window";
    case CachePolicyKind::kStreamingLlm:
      return "StreamingLLM";
    case CachePolicyKind::kH2o:
      return "H2O";
  }
  return "unknown";
}

absl::Status Refuse(bool given, const char* field, CachePolicyKind policy) {
  if (!given) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} is set, but the {} policy does not have it", field, NameOf(policy)));
}

absl::Status RefuseForeignFields(const CacheOptions& o) {
  if (o.policy == CachePolicyKind::kFull) {
    SL_RETURN_IF_ERROR(
        Refuse(o.budget_tokens.has_value(), "budget_tokens", o.policy));
    SL_RETURN_IF_ERROR(
        Refuse(o.prompt_ratio.has_value(), "prompt_ratio", o.policy));
    SL_RETURN_IF_ERROR(
        Refuse(o.context_ratio.has_value(), "context_ratio", o.policy));
  }
  if (o.policy != CachePolicyKind::kH2o) {
    SL_RETURN_IF_ERROR(
        Refuse(o.recent_tokens.has_value(), "recent_tokens", o.policy));
  }
  if (o.policy != CachePolicyKind::kH2o &&
      o.policy != CachePolicyKind::kStreamingLlm) {
    SL_RETURN_IF_ERROR(
        Refuse(o.sink_tokens.has_value(), "sink_tokens", o.policy));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ShareOf(const char* field, double ratio,
                                int64_t tokens) {
  if (!(ratio > 0 && ratio <= 1)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is {}, must be in (0, 1]", field, ratio));
  }
  return std::max<int64_t>(1,
                           std::llround(ratio * static_cast<double>(tokens)));
}

absl::StatusOr<int64_t> Budget(const CacheOptions& o, int64_t prompt_tokens,
                               int64_t context_tokens) {
  const int given = o.budget_tokens.has_value() + o.prompt_ratio.has_value() +
                    o.context_ratio.has_value();
  if (given != 1) {
    return absl::InvalidArgumentError(
        fmt::format("{} of budget_tokens, prompt_ratio and context_ratio are "
                    "set, the {} policy needs exactly one",
                    given, NameOf(o.policy)));
  }
  if (o.prompt_ratio) {
    return ShareOf("prompt_ratio", *o.prompt_ratio, prompt_tokens);
  }
  if (o.context_ratio) {
    return ShareOf("context_ratio", *o.context_ratio, context_tokens);
  }
  if (*o.budget_tokens < 1) {
    return absl::InvalidArgumentError(
        fmt::format("budget_tokens is {}, must be >= 1", *o.budget_tokens));
  }
  return *o.budget_tokens;
}

absl::Status CheckRange(const char* field, int64_t value, int64_t high,
                        const char* meaning) {
  if (value >= 0 && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} is {}, must be in [0, {}] ({})", field, value, high, meaning));
}

absl::Status SplitH2o(const CacheOptions& o, ResolvedCache* out) {
  out->recent_tokens = o.recent_tokens.value_or(out->budget_tokens / 2);
  SL_RETURN_IF_ERROR(CheckRange("recent_tokens", out->recent_tokens,
                                out->budget_tokens - 1, "below the budget"));
  const int64_t room = out->budget_tokens - out->recent_tokens;
  out->sink_tokens = o.sink_tokens.value_or(
      std::min({kDefaultSinkTokens, out->budget_tokens / 2, room}));
  SL_RETURN_IF_ERROR(CheckRange("sink_tokens", out->sink_tokens, room,
                                "budget - recent_tokens"));
  out->heavy_tokens = room - out->sink_tokens;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CacheStorage> ParseCacheStorage(std::string_view name) {
  if (name == "float32") return CacheStorage::kFloat32;
  if (name == "bfloat16") return CacheStorage::kBfloat16;
  if (name == "int8") return CacheStorage::kInt8;
  return absl::InvalidArgumentError(fmt::format(
      "cache storage is {}, must be float32, bfloat16 or int8", name));
}

absl::StatusOr<ResolvedCache> Resolve(const CacheOptions& options,
                                      int64_t prompt_tokens,
                                      int64_t context_tokens,
                                      CacheStorage own_storage) {
  SL_RETURN_IF_ERROR(RefuseForeignFields(options));
  ResolvedCache out;
  out.storage = options.storage.value_or(own_storage);
  out.policy = options.policy;
  if (options.policy == CachePolicyKind::kFull) {
    out.budget_tokens = out.recent_tokens = context_tokens;
    return out;
  }
  SL_ASSIGN_OR_RETURN(out.budget_tokens,
                      Budget(options, prompt_tokens, context_tokens));
  switch (options.policy) {
    case CachePolicyKind::kFull:
    case CachePolicyKind::kSlidingWindow:
      out.recent_tokens = out.budget_tokens;
      break;
    case CachePolicyKind::kStreamingLlm:
      out.sink_tokens = options.sink_tokens.value_or(
          std::min(kDefaultSinkTokens, out.budget_tokens / 2));
      SL_RETURN_IF_ERROR(CheckRange("sink_tokens", out.sink_tokens,
                                    out.budget_tokens - 1, "below the budget"));
      out.recent_tokens = out.budget_tokens - out.sink_tokens;
      break;
    case CachePolicyKind::kH2o:
      SL_RETURN_IF_ERROR(SplitH2o(options, &out));
      break;
  }
  return out;
}

}  // namespace sinklora
