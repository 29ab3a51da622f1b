// A loaded target: what a request runs against.
//
// Ownership: a ServedTarget holds device memory, and its last owner may be any
// thread; the model manager therefore makes its shared_ptr with a deleter that
// hands the object to the engine thread.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_SERVED_TARGET_H_
#define SINKLORA_SERVICES_INFERENCE_SERVED_TARGET_H_

#include <atomic>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/model/inference_model.h"
#include "common/text/chat_template.h"
#include "common/text/tokenizer.h"

namespace sinklora::inference {

// Which weights, as clients name them. Value type.
struct TargetSpec {
  std::string model;
  std::string adapter;         // empty: none
  int64_t context_tokens = 0;  // 0: the model's or the adapter's own

  auto operator<=>(const TargetSpec&) const = default;
};

// Base weights with their tokenizer, shared by all targets of one model.
struct LoadedBase {
  std::string digest;
  std::shared_ptr<BaseWeights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  // Of the template that the model comes with; nullopt when it has none, an
  // error when it is none of those known.
  absl::StatusOr<std::optional<ChatFormat>> chat_format = std::nullopt;
};

// Immutable but for the counter. `model` is used on the engine thread only,
// except for its constant properties (config, context_tokens, rope_factor).
struct ServedTarget {
  TargetSpec spec;
  std::string adapter_digest;  // empty without adapter
  std::shared_ptr<const LoadedBase> base;
  std::shared_ptr<ServedModel> model;
  std::atomic<int> running_requests{0};

  const Tokenizer& tokenizer() const { return *base->tokenizer; }
  int64_t weight_bytes() const {
    return base->weights->weight_bytes() + model->extra_bytes();
  }
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_SERVED_TARGET_H_
