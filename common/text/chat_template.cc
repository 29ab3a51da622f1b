// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr char kChatMlStart[] = "<|im_start|>";
constexpr char kChatMlEnd[] = "<|im_end|>";
constexpr char kAlpacaPreamble[] =
    "Below is an instruction that describes a task. Write a response that "
    "appropriately completes the request.";
constexpr char kAlpacaInstruction[] = "### Instruction:";

struct NamedTemplate {
  std::string_view name;
  ChatTemplate value;
};
constexpr NamedTemplate kTemplates[] = {{"llama-2", ChatTemplate::kLlama2},
                                        {"chatml", ChatTemplate::kChatMl},
                                        {"alpaca", ChatTemplate::kAlpaca}};

absl::Status CheckTurns(const std::vector<ChatTurn>& turns) {
  size_t first = 0;
  if (!turns.empty() && turns[0].role == "system") first = 1;
  if (turns.size() == first) {
    return absl::InvalidArgumentError("the chat has no turn of a user");
  }
  for (size_t i = first; i < turns.size(); ++i) {
    const char* expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (turns[i].role != expected) {
      return absl::InvalidArgumentError(
          fmt::format("turn {} of the chat has role '{}', expected '{}'", i,
                      turns[i].role, expected));
    }
  }
  return absl::OkStatus();
}

// Collects ids; text of the same kind that was added piece by piece is
// tokenized as one.
class ChatEncoder {
 public:
  explicit ChatEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddText(std::string_view text) { text_ += text; }
  absl::Status AddToken(std::optional<int32_t> id, bool supervised) {
    SL_RETURN_IF_ERROR(Flush(false));
    if (id) Push(*id, supervised);
    return absl::OkStatus();
  }
  // A marker of the template: one special token where the tokenizer has it,
  // ordinary text where not.
  absl::Status AddMarker(std::string_view marker, bool supervised) {
    const std::optional<int32_t> id = tokenizer_.SpecialTokenId(marker);
    if (id) return AddToken(id, supervised);
    if (supervised) return AddAnswer(marker);
    AddText(marker);
    return absl::OkStatus();
  }
  // Tokenized apart from what stands before it.
  absl::Status AddAnswer(std::string_view text) {
    SL_RETURN_IF_ERROR(Flush(false));
    AddText(text);
    return Flush(true);
  }
  absl::StatusOr<EncodedChat> Finish() {
    SL_RETURN_IF_ERROR(Flush(false));
    return std::move(chat_);
  }

 private:
  absl::Status Flush(bool supervised) {
    SL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                        tokenizer_.Encode(text_));
    for (int32_t id : ids) Push(id, supervised);
    text_.clear();
    return absl::OkStatus();
  }
  void Push(int32_t id, bool supervised) {
    chat_.token_ids.push_back(id);
    chat_.supervised.push_back(supervised ? 1 : 0);
  }

  const Tokenizer& tokenizer_;
  std::string text_;
  EncodedChat chat_;
};

// <s>[INST] <<SYS>> system <</SYS>> user [/INST]answer</s><s>[INST] ...
absl::Status EncodeLlama2(const Tokenizer& tokenizer,
                          const std::vector<ChatTurn>& turns,
                          ChatEncoder* out) {
  std::string system;
  for (const ChatTurn& turn : turns) {
    if (turn.role == "system") {
      system = fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n", turn.content);
    } else if (turn.role == "user") {
      SL_RETURN_IF_ERROR(out->AddToken(tokenizer.bos_id(), false));
      out->AddText(fmt::format("[INST] {}{} [/INST]", system, turn.content));
      system.clear();
    } else {
      SL_RETURN_IF_ERROR(out->AddAnswer(turn.content));
      SL_RETURN_IF_ERROR(out->AddToken(tokenizer.eos_id(), true));
    }
  }
  return absl::OkStatus();
}

// <|im_start|>role\ncontent<|im_end|>\n ...
absl::Status EncodeChatMl(const Tokenizer& tokenizer,
                          const std::vector<ChatTurn>& turns,
                          ChatEncoder* out) {
  SL_RETURN_IF_ERROR(out->AddToken(tokenizer.bos_id(), false));
  const bool has_end_token = tokenizer.SpecialTokenId(kChatMlEnd).has_value();
  for (const ChatTurn& turn : turns) {
    const bool is_answer = turn.role == "assistant";
    SL_RETURN_IF_ERROR(out->AddMarker(kChatMlStart, false));
    out->AddText(turn.role + "\n");
    if (is_answer) {
      SL_RETURN_IF_ERROR(out->AddAnswer(turn.content));
    } else {
      out->AddText(turn.content);
    }
    SL_RETURN_IF_ERROR(out->AddMarker(kChatMlEnd, is_answer));
    if (is_answer && !has_end_token) {
      SL_RETURN_IF_ERROR(out->AddToken(tokenizer.eos_id(), true));
    }
    out->AddText("\n");
  }
  if (turns.back().role == "assistant") return absl::OkStatus();
  SL_RETURN_IF_ERROR(out->AddMarker(kChatMlStart, false));
  out->AddText("assistant\n");
  return absl::OkStatus();
}

// Preamble, ### Instruction:, ### Response:
absl::Status EncodeAlpaca(const Tokenizer& tokenizer,
                          const std::vector<ChatTurn>& turns,
                          ChatEncoder* out) {
  SL_RETURN_IF_ERROR(out->AddToken(tokenizer.bos_id(), false));
  const bool has_system = turns[0].role == "system";
  out->AddText(has_system ? turns[0].content : kAlpacaPreamble);
  for (const ChatTurn& turn : turns) {
    if (turn.role == "user") {
      out->AddText(fmt::format("\n\n{}\n{}\n\n### Response:\n",
                               kAlpacaInstruction, turn.content));
    } else if (turn.role == "assistant") {
      SL_RETURN_IF_ERROR(out->AddAnswer(turn.content));
      SL_RETURN_IF_ERROR(out->AddToken(tokenizer.eos_id(), true));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatTemplate> ParseChatTemplate(std::string_view name) {
  if (name.empty()) return ChatTemplate::kLlama2;
  for (const NamedTemplate& known : kTemplates) {
    if (known.name == name) return known.value;
  }
  return absl::InvalidArgumentError(fmt::format(
      "chat template '{}' is unknown; known are llama-2, chatml, alpaca",
      name));
}

std::string_view ChatTemplateName(ChatTemplate chat_template) {
  for (const NamedTemplate& known : kTemplates) {
    if (known.value == chat_template) return known.name;
  }
  return "?";
}

absl::StatusOr<EncodedChat> EncodeChat(const Tokenizer& tokenizer,
                                       ChatTemplate chat_template,
                                       const std::vector<ChatTurn>& turns) {
  SL_RETURN_IF_ERROR(CheckTurns(turns));
  ChatEncoder encoder(tokenizer);
  switch (chat_template) {
    case ChatTemplate::kLlama2:
      SL_RETURN_IF_ERROR(EncodeLlama2(tokenizer, turns, &encoder));
      break;
    case ChatTemplate::kChatMl:
      SL_RETURN_IF_ERROR(EncodeChatMl(tokenizer, turns, &encoder));
      break;
    case ChatTemplate::kAlpaca:
      SL_RETURN_IF_ERROR(EncodeAlpaca(tokenizer, turns, &encoder));
      break;
  }
  return encoder.Finish();
}

std::vector<std::string> StopStrings(ChatTemplate chat_template) {
  switch (chat_template) {
    case ChatTemplate::kLlama2:
      return {"[INST]"};
    case ChatTemplate::kChatMl:
      return {kChatMlEnd, kChatMlStart};
    case ChatTemplate::kAlpaca:
      return {kAlpacaInstruction};
  }
  return {};
}

}  // namespace sinklora
