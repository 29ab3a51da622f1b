// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_faults.h"

#include <bit>
#include <cstdio>
#include <string>

namespace sinklora::kernels::cuda {
namespace {

enum class Limit { kBelow, kAscending, kFinite, kVisible };

struct Named {
  const char* op;
  const char* field;
  int64_t low;  // of kBelow: [low, limit)
  Limit limit;
};

Named NameOf(ValueCheck check) {
  switch (check) {
    case ValueCheck::kEmbeddingForwardIds:
      return {"embedding_forward", "ids", 0, Limit::kBelow};
    case ValueCheck::kEmbeddingBackwardIds:
      return {"embedding_backward", "ids", 0, Limit::kBelow};
    case ValueCheck::kRopePositions:
      return {"rope", "positions", 0, Limit::kBelow};
    case ValueCheck::kDequantizeRowsIds:
      return {"dequantize_rows", "ids", 0, Limit::kBelow};
    case ValueCheck::kCrossEntropyLabels:
      return {"linear_cross_entropy", "labels", -1, Limit::kBelow};
    case ValueCheck::kQuantizeWeight:
      return {"quantize", "weight", 0, Limit::kFinite};
    case ValueCheck::kCacheWritePosition:
      return {"cache_write", "position", 0, Limit::kBelow};
    case ValueCheck::kCacheWriteSlots:
      return {"cache_write", "slots", 0, Limit::kBelow};
    case ValueCheck::kCacheAttentionPosition:
      return {"cache_attention", "position", 0, Limit::kVisible};
    case ValueCheck::kCacheDecodeSlots:
      return {"cache_decode", "slots", 0, Limit::kBelow};
    case ValueCheck::kCacheCompactKeep:
      return {"cache_compact", "keep", 0, Limit::kBelow};
    case ValueCheck::kCacheCompactOrder:
      return {"cache_compact", "keep", 0, Limit::kAscending};
    case ValueCheck::kAdamWRows:
      return {"adamw", "rows", 0, Limit::kBelow};
    case ValueCheck::kAdamWRowOrder:
      return {"adamw", "rows", 0, Limit::kAscending};
    case ValueCheck::kSumSquaresRows:
      return {"sum_squares", "rows", 0, Limit::kBelow};
    case ValueCheck::kSumSquaresRowOrder:
      return {"sum_squares", "rows", 0, Limit::kAscending};
    case ValueCheck::kZeroRows:
      return {"zero_rows", "rows", 0, Limit::kBelow};
    case ValueCheck::kZeroRowOrder:
      return {"zero_rows", "rows", 0, Limit::kAscending};
  }
  return {"unknown", "unknown", 0, Limit::kBelow};
}

std::string Bracketed(int64_t index) {
  std::string out = "[";
  return out.append(std::to_string(index)).append("]");
}

std::string ValueOf(const Named& named, uint32_t bits) {
  if (named.limit != Limit::kFinite) {
    return std::to_string(static_cast<int32_t>(bits));
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%g",
                static_cast<double>(std::bit_cast<float>(bits)));
  return text;
}

std::string LimitOf(const Named& named, int64_t limit) {
  switch (named.limit) {
    case Limit::kBelow:
      return "in [" + std::to_string(named.low) + ", " + std::to_string(limit) +
             ")";
    case Limit::kAscending:
      return "> " + std::to_string(limit) + " (strictly ascending)";
    case Limit::kFinite:
      return "finite";
    case Limit::kVisible:
      return "at least the position of one slot of kv head " +
             std::to_string(limit) + " (no visible slot)";
  }
  return "";
}

}  // namespace

Status ToStatus(const DeviceFaults& faults) {
  for (int i = 0; i < kValueChecks; ++i) {
    const DeviceFault& fault = faults.of[i];
    if (fault.first == DeviceFault::kNone) continue;
    const Named named = NameOf(static_cast<ValueCheck>(i));
    const auto index = static_cast<int64_t>(fault.first >> 32);
    std::string message = named.op;
    message.append(": ").append(named.field);
    if (fault.columns > 0) {
      message.append(Bracketed(index / fault.columns))
          .append(Bracketed(index % fault.columns));
    } else {
      message.append(Bracketed(index));
    }
    message.append(" is ")
        .append(ValueOf(named, static_cast<uint32_t>(fault.first)))
        .append(", must be ")
        .append(LimitOf(named, fault.limit));
    return InvalidArgument(message);
  }
  return OkStatus();
}

}  // namespace sinklora::kernels::cuda
