// From what a client asks for to a request the engine can run: prompts become
// token ids, defaults become numbers, every rule is checked.
//
// Thread-safe (stateless). Errors are kInvalidArgument naming the field, the
// value and the limit.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_PREPARE_H_
#define SINKLORA_SERVICES_INFERENCE_PREPARE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/options.h"
#include "common/model/sampler.h"
#include "common/text/chat_template.h"
#include "services/inference/generation.h"
#include "services/inference/served_target.h"

namespace sinklora::inference {

constexpr int64_t kDefaultMaxTokens = 128;
constexpr size_t kMaxStopStrings = 16;
// Each token of text is searched for every stop string.
constexpr size_t kMaxStopBytes = 1024;

struct ChatPromptParams {
  std::vector<ChatTurn> turns;
  std::string chat_template;
};

struct GenerationParams {
  // Text, token ids or a chat; monostate when the client gave none.
  std::variant<std::monostate, std::string, std::vector<int32_t>,
               ChatPromptParams>
      prompt;
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  SamplingOptions sampling;
  CacheOptions cache;
  bool ignore_eos = false;
};

// `cancellation` and `arrival_micros` are the caller's to set.
absl::StatusOr<GenerationRequest> PrepareGeneration(
    std::shared_ptr<ServedTarget> target, GenerationParams params);

// Ids of `text`, with the begin token in front where asked and there is one.
absl::StatusOr<std::vector<int32_t>> EncodeText(const Tokenizer& tokenizer,
                                                std::string_view text,
                                                bool add_bos);
// Every id in [0, vocab_size).
absl::Status CheckTokenIds(std::string_view field, std::span<const int32_t> ids,
                           int64_t vocab_size);
// Text of ids as a generation would have streamed it: always valid UTF-8.
absl::StatusOr<std::string> DecodeIds(const Tokenizer& tokenizer,
                                      std::span<const int32_t> ids);

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_PREPARE_H_
