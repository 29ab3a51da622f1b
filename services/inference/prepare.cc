// SPDX-License-Identifier: Apache-2.0
#include "services/inference/prepare.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"
#include "common/text/utf8.h"

namespace sinklora::inference {
namespace {

absl::Status CheckStopStrings(const std::vector<std::string>& stop) {
  if (stop.size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(
        fmt::format("stop has {} strings, at most {} are allowed", stop.size(),
                    kMaxStopStrings));
  }
  for (size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty() || stop[i].size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          fmt::format("stop[{}] has {} bytes, must have 1 to {}", i,
                      stop[i].size(), kMaxStopBytes));
    }
    if (FindInvalidUtf8(stop[i]) != std::string_view::npos) {
      return absl::InvalidArgumentError(
          fmt::format("stop[{}] is not valid UTF-8", i));
    }
  }
  return absl::OkStatus();
}

constexpr char kOwnTemplate[] = "auto";

absl::StatusOr<ChatFormat> ResolveChatFormat(const std::string& name,
                                             const LoadedBase& base) {
  if (name != kOwnTemplate) {
    SL_ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                        ParseChatTemplate(name));
    return NamedChatFormat(chat_template);
  }
  SL_ASSIGN_OR_RETURN(const std::optional<ChatFormat>& own, base.chat_format);
  if (own) return *own;
  return absl::InvalidArgumentError(
      fmt::format("chat.chat_template is \"{}\" but the model comes with no "
                  "chat template; name one of {}",
                  kOwnTemplate, ChatTemplateNames()));
}

// Adds what ends a turn of the template: a token where the tokenizer has one by
// that text (its bytes never show up in the output), else a stop string.
absl::StatusOr<std::vector<int32_t>> PrepareChat(const ChatPromptParams& chat,
                                                 GenerationRequest* request) {
  const Tokenizer& tokenizer = request->target->tokenizer();
  SL_ASSIGN_OR_RETURN(
      const ChatFormat format,
      ResolveChatFormat(chat.chat_template, *request->target->base));
  if (chat.turns.empty() || chat.turns.back().role != "user") {
    return absl::InvalidArgumentError(fmt::format(
        "chat.messages has {} messages, the last one must be the user's",
        chat.turns.size()));
  }
  SL_ASSIGN_OR_RETURN(EncodedChat encoded,
                      EncodeChat(tokenizer, format, chat.turns));
  for (std::string& stop : StopStrings(format)) {
    if (const auto id = tokenizer.SpecialTokenId(stop)) {
      request->end_ids.push_back(*id);
    } else {
      request->stop.push_back(std::move(stop));
    }
  }
  return std::move(encoded.token_ids);
}

absl::StatusOr<std::vector<int32_t>> PreparePrompt(GenerationParams& params,
                                                   GenerationRequest* request) {
  if (const auto* text = std::get_if<std::string>(&params.prompt)) {
    if (text->empty()) return absl::InvalidArgumentError("text is empty");
    return EncodeText(request->target->tokenizer(), *text, /*add_bos=*/true);
  }
  if (auto* ids = std::get_if<std::vector<int32_t>>(&params.prompt)) {
    if (ids->empty()) return absl::InvalidArgumentError("token_ids is empty");
    return std::move(*ids);
  }
  if (const auto* chat = std::get_if<ChatPromptParams>(&params.prompt)) {
    return PrepareChat(*chat, request);
  }
  return absl::InvalidArgumentError(
      "prompt is missing: set text, token_ids or chat");
}

absl::Status CheckLength(int64_t prompt_tokens, int64_t max_tokens,
                         int64_t context_tokens) {
  if (max_tokens < 1) {
    return absl::InvalidArgumentError(
        fmt::format("max_tokens is {}, must be at least 1", max_tokens));
  }
  if (prompt_tokens + max_tokens <= context_tokens) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("prompt of {} tokens and max_tokens {} make {}, more than "
                  "the context of {} tokens",
                  prompt_tokens, max_tokens, prompt_tokens + max_tokens,
                  context_tokens),
      {.reason = "CONTEXT_EXCEEDED",
       .metadata = {{"prompt_tokens", fmt::format("{}", prompt_tokens)},
                    {"max_tokens", fmt::format("{}", max_tokens)},
                    {"context_tokens", fmt::format("{}", context_tokens)}}});
}

}  // namespace

absl::StatusOr<GenerationRequest> PrepareGeneration(
    std::shared_ptr<ServedTarget> target, GenerationParams params) {
  SL_RETURN_IF_ERROR(CheckStopStrings(params.stop));
  SL_RETURN_IF_ERROR(Validate(params.sampling));
  GenerationRequest request;
  request.target = std::move(target);
  request.stop = std::move(params.stop);
  request.sampling = params.sampling;
  request.max_tokens = params.max_tokens.value_or(kDefaultMaxTokens);

  const ServedModel& model = *request.target->model;
  SL_ASSIGN_OR_RETURN(request.prompt, PreparePrompt(params, &request));
  SL_RETURN_IF_ERROR(
      CheckTokenIds("prompt", request.prompt, model.config().vocab_size));
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  SL_RETURN_IF_ERROR(
      CheckLength(prompt_tokens, request.max_tokens, model.context_tokens()));
  SL_ASSIGN_OR_RETURN(request.cache, Resolve(params.cache, prompt_tokens,
                                             model.context_tokens(),
                                             model.own_cache_storage()));
  if (params.ignore_eos) {
    request.end_ids.clear();
  } else {
    auto eos_id = request.target->tokenizer().eos_id();
    if (!eos_id) eos_id = model.config().eos_token_id;
    if (eos_id) request.end_ids.push_back(*eos_id);
  }
  return request;
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const Tokenizer& tokenizer,
                                                std::string_view text,
                                                bool add_bos) {
  SL_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.Encode(text));
  if (add_bos && tokenizer.bos_id())
    ids.insert(ids.begin(), *tokenizer.bos_id());
  return ids;
}

absl::Status CheckTokenIds(std::string_view field, std::span<const int32_t> ids,
                           int64_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: token id {} at index {} is outside the vocabulary "
                    "[0, {})",
                    field, ids[i], i, vocab_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DecodeIds(const Tokenizer& tokenizer,
                                      std::span<const int32_t> ids) {
  SL_RETURN_IF_ERROR(CheckTokenIds("token_ids", ids, tokenizer.vocab_size()));
  StreamDecoder decoder(&tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.Append(id);
  text += decoder.Finish();
  return text;
}

}  // namespace sinklora::inference
