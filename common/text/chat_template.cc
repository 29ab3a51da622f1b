// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/status.h"
#include "common/text/unicode.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

struct NamedTemplate {
  std::string_view name;
  ChatTemplate value;
};
constexpr NamedTemplate kTemplates[] = {
    {"llama-2", ChatTemplate::kLlama2}, {"llama-3", ChatTemplate::kLlama3},
    {"chatml", ChatTemplate::kChatMl},  {"mistral", ChatTemplate::kMistral},
    {"zephyr", ChatTemplate::kZephyr},  {"alpaca", ChatTemplate::kAlpaca},
    {"vicuna", ChatTemplate::kVicuna}};

// What may be a special token in a template.
constexpr std::string_view kMarkers[] = {
    "<|im_start|>",      "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "[INST]",
    "[/INST]",           "<|system|>", "<|user|>",
    "<|assistant|>"};

ChatFormat Llama2() {
  return {.chat_template = ChatTemplate::kLlama2,
          .bos = ChatFormat::Bos::kBeforeEachUser,
          .system = ChatFormat::System::kInFirstUser,
          .system_prefix = "<<SYS>>\n",
          .system_suffix = "\n<</SYS>>\n\n",
          .user_prefix = "[INST] ",
          .user_suffix = " [/INST]",
          .answer_prefix = " ",
          .answer_suffix = " ",
          .trims = true};
}

ChatFormat Llama3() {
  return {
      .chat_template = ChatTemplate::kLlama3,
      .system_prefix = "<|start_header_id|>system<|end_header_id|>\n\n",
      .system_suffix = "<|eot_id|>",
      .user_prefix = "<|start_header_id|>user<|end_header_id|>\n\n",
      .user_suffix = "<|eot_id|>",
      .assistant_prefix = "<|start_header_id|>assistant<|end_header_id|>\n\n",
      .end_token = "<|eot_id|>",
      .trims = true};
}

ChatFormat ChatMl() {
  return {.chat_template = ChatTemplate::kChatMl,
          .bos = ChatFormat::Bos::kNone,
          .system_prefix = "<|im_start|>system\n",
          .system_suffix = "<|im_end|>\n",
          .user_prefix = "<|im_start|>user\n",
          .user_suffix = "<|im_end|>\n",
          .assistant_prefix = "<|im_start|>assistant\n",
          .end_token = "<|im_end|>",
          .after_end = "\n"};
}

ChatFormat Mistral() {
  return {.chat_template = ChatTemplate::kMistral,
          .system = ChatFormat::System::kInFirstUser,
          .system_suffix = "\n\n",
          .user_prefix = "[INST] ",
          .user_suffix = " [/INST]",
          .answer_prefix = " "};
}

ChatFormat Zephyr() {
  return {.chat_template = ChatTemplate::kZephyr,
          .bos = ChatFormat::Bos::kNone,
          .system_prefix = "<|system|>\n",
          .system_suffix = "</s>\n",
          .user_prefix = "<|user|>\n",
          .user_suffix = "</s>\n",
          .assistant_prefix = "<|assistant|>\n",
          .after_end = "\n"};
}

ChatFormat Alpaca() {
  return {.chat_template = ChatTemplate::kAlpaca,
          .bos = ChatFormat::Bos::kLikeTexts,
          .default_system =
              "Below is an instruction that describes a task. Write a response "
              "that appropriately completes the request.",
          .system_suffix = "\n\n",
          .user_prefix = "### Instruction:\n",
          .user_suffix = "\n\n",
          .assistant_prefix = "### Response:\n",
          .after_end = "\n\n",
          .trims = true};
}

ChatFormat Vicuna() {
  return {.chat_template = ChatTemplate::kVicuna,
          .bos = ChatFormat::Bos::kLikeTexts,
          .default_system =
              "A chat between a curious user and an artificial intelligence "
              "assistant. The assistant gives helpful, detailed, and polite "
              "answers to the user's questions.",
          .system_suffix = " ",
          .user_prefix = "USER: ",
          .user_suffix = " ",
          .assistant_prefix = "ASSISTANT:",
          .answer_prefix = " "};
}

absl::Status CheckTurns(const ChatFormat& format,
                        const std::vector<ChatTurn>& turns) {
  size_t first = 0;
  if (!turns.empty() && turns[0].role == "system") first = 1;
  if (turns.size() == first) {
    return absl::InvalidArgumentError("the chat has no turn of a user");
  }
  if (first == 1 && format.system == ChatFormat::System::kRefused) {
    return absl::InvalidArgumentError(
        fmt::format("the model's own {} template has no system turn",
                    ChatTemplateName(format.chat_template)));
  }
  for (size_t i = first; i < turns.size(); ++i) {
    const char* expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (turns[i].role != expected) {
      return absl::InvalidArgumentError(
          fmt::format("turn {} of the chat has role '{}', expected '{}'", i,
                      turns[i].role, expected));
    }
  }
  for (size_t i = 0; i < turns.size(); ++i) {
    const size_t invalid = FindInvalidUtf8(turns[i].content);
    if (invalid == std::string_view::npos) continue;
    return absl::InvalidArgumentError(fmt::format(
        "turn {} of the chat is not valid UTF-8 at offset {}", i, invalid));
  }
  return absl::OkStatus();
}

// Collects ids. Text between two special tokens is tokenized as one, apart from
// answers.
class ChatEncoder {
 public:
  using Start = EncodeOptions::Start;

  explicit ChatEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddText(std::string_view text) { text_ += text; }
  absl::Status AddToken(std::optional<int32_t> id) {
    if (!id) return absl::OkStatus();
    SL_RETURN_IF_ERROR(Flush());
    Push(*id);
    start_ = Start::kAfterToken;
    return absl::OkStatus();
  }
  // Text of the template: its markers become special tokens.
  absl::Status AddTemplate(std::string_view text) {
    while (!text.empty()) {
      size_t at = text.size();
      std::string_view marker;
      for (std::string_view candidate : Markers()) {
        const size_t found = text.find(candidate);
        if (found >= at) continue;
        at = found;
        marker = candidate;
      }
      AddText(text.substr(0, at));
      text.remove_prefix(at + marker.size());
      if (marker.empty()) break;
      SL_RETURN_IF_ERROR(AddToken(TokenOf(marker)));
    }
    return absl::OkStatus();
  }
  // What is added from here on is tokenized apart from what was before.
  absl::Status SetSupervised(bool supervised) {
    SL_RETURN_IF_ERROR(Flush());
    supervised_ = supervised;
    return absl::OkStatus();
  }
  absl::StatusOr<EncodedChat> Finish() {
    SL_RETURN_IF_ERROR(Flush());
    return std::move(chat_);
  }
  std::optional<int32_t> TokenOf(std::string_view marker) const {
    return marker == "</s>" ? tokenizer_.eos_id()
                            : tokenizer_.SpecialTokenId(marker);
  }

 private:
  // Those that the tokenizer has a token for.
  const std::vector<std::string_view>& Markers() {
    if (!markers_) {
      markers_.emplace();
      for (std::string_view marker : kMarkers) {
        if (TokenOf(marker)) markers_->push_back(marker);
      }
      if (TokenOf("</s>")) markers_->push_back("</s>");
    }
    return *markers_;
  }
  absl::Status Flush() {
    if (text_.empty()) return absl::OkStatus();
    SL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                        tokenizer_.Encode(text_, {.start = start_}));
    for (int32_t id : ids) Push(id);
    text_.clear();
    start_ = Start::kContinued;
    return absl::OkStatus();
  }
  void Push(int32_t id) {
    chat_.token_ids.push_back(id);
    chat_.supervised.push_back(supervised_ ? 1 : 0);
  }

  const Tokenizer& tokenizer_;
  std::optional<std::vector<std::string_view>> markers_;
  std::string text_;
  Start start_ = Start::kText;
  bool supervised_ = false;
  EncodedChat chat_;
};

bool IsTrimmed(char32_t c) {
  // What Python's strip() takes for white space beyond White_Space.
  return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
}

std::string_view Trim(std::string_view text) {
  while (!text.empty()) {
    size_t length = 0;
    if (!IsTrimmed(DecodeUtf8(text, &length))) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    size_t start = 0;
    if (!IsTrimmed(LastCodePoint(text, &start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string Content(const ChatFormat& format, std::string_view content) {
  return std::string(format.trims ? Trim(content) : content);
}

absl::Status AddAnswer(const ChatFormat& format, const Tokenizer& tokenizer,
                       const std::string& content, ChatEncoder* out) {
  SL_RETURN_IF_ERROR(out->AddTemplate(format.assistant_prefix));
  SL_RETURN_IF_ERROR(out->SetSupervised(true));
  const std::string_view answer =
      format.trims || format.trims_answers ? Trim(content) : content;
  out->AddText(format.answer_prefix);
  out->AddText(answer);
  out->AddText(format.answer_suffix);
  const std::optional<int32_t> own =
      format.end_token.empty() ? std::nullopt : out->TokenOf(format.end_token);
  if (own) {
    SL_RETURN_IF_ERROR(out->AddToken(own));
  } else {
    out->AddText(format.end_token);
    SL_RETURN_IF_ERROR(out->AddToken(tokenizer.eos_id()));
  }
  SL_RETURN_IF_ERROR(out->SetSupervised(false));
  return out->AddTemplate(format.after_end);
}

// `system` stands before the content of this turn where it is not empty.
absl::Status AddUser(const ChatFormat& format, const Tokenizer& tokenizer,
                     const std::string& system, const std::string& content,
                     ChatEncoder* out) {
  if (format.bos == ChatFormat::Bos::kBeforeEachUser) {
    SL_RETURN_IF_ERROR(out->AddToken(tokenizer.named_bos_id()));
  }
  SL_RETURN_IF_ERROR(out->AddTemplate(format.user_prefix));
  out->AddText(Content(format, system + content));
  return out->AddTemplate(format.user_suffix);
}

}  // namespace

absl::StatusOr<ChatTemplate> ParseChatTemplate(std::string_view name) {
  if (name.empty()) return ChatTemplate::kLlama2;
  for (const NamedTemplate& known : kTemplates) {
    if (known.name == name) return known.value;
  }
  return absl::InvalidArgumentError(
      fmt::format("chat template '{}' is unknown; known are {}", name,
                  ChatTemplateNames()));
}

std::string_view ChatTemplateName(ChatTemplate chat_template) {
  for (const NamedTemplate& known : kTemplates) {
    if (known.value == chat_template) return known.name;
  }
  return "?";
}

std::string ChatTemplateNames() {
  std::string names;
  for (const NamedTemplate& known : kTemplates) {
    if (!names.empty()) names += ", ";
    names += known.name;
  }
  return names;
}

const ChatFormat& NamedChatFormat(ChatTemplate chat_template) {
  static const auto& formats = *new std::map<ChatTemplate, ChatFormat>{
      {ChatTemplate::kLlama2, Llama2()}, {ChatTemplate::kLlama3, Llama3()},
      {ChatTemplate::kChatMl, ChatMl()}, {ChatTemplate::kMistral, Mistral()},
      {ChatTemplate::kZephyr, Zephyr()}, {ChatTemplate::kAlpaca, Alpaca()},
      {ChatTemplate::kVicuna, Vicuna()}};
  return formats.at(chat_template);
}

absl::StatusOr<EncodedChat> EncodeChat(const Tokenizer& tokenizer,
                                       const ChatFormat& format,
                                       const std::vector<ChatTurn>& turns) {
  SL_RETURN_IF_ERROR(CheckTurns(format, turns));
  ChatEncoder out(tokenizer);
  if (format.bos == ChatFormat::Bos::kOnce) {
    SL_RETURN_IF_ERROR(out.AddToken(tokenizer.named_bos_id()));
  } else if (format.bos == ChatFormat::Bos::kLikeTexts) {
    SL_RETURN_IF_ERROR(out.AddToken(tokenizer.bos_id()));
  }
  const bool has_system = turns[0].role == "system";
  std::optional<std::string> system = format.default_system;
  if (has_system) system = turns[0].content;
  const size_t first_user = has_system ? 1 : 0;
  const size_t last_user = turns.size() - (turns.back().role == "user" ? 1 : 2);
  const bool in_first = format.system == ChatFormat::System::kInFirstUser;
  if (system && format.system == ChatFormat::System::kOwnTurn) {
    SL_RETURN_IF_ERROR(out.AddTemplate(format.system_prefix));
    out.AddText(Content(format, *system));
    SL_RETURN_IF_ERROR(out.AddTemplate(format.system_suffix));
    system.reset();
  }
  for (size_t i = first_user; i < turns.size(); ++i) {
    if (turns[i].role == "assistant") {
      SL_RETURN_IF_ERROR(AddAnswer(format, tokenizer, turns[i].content, &out));
      continue;
    }
    const bool has_place = system && i == (in_first ? first_user : last_user);
    SL_RETURN_IF_ERROR(AddUser(
        format, tokenizer,
        has_place ? format.system_prefix + *system + format.system_suffix : "",
        turns[i].content, &out));
  }
  if (turns.back().role == "user") {
    SL_RETURN_IF_ERROR(out.AddTemplate(format.assistant_prefix));
  }
  return out.Finish();
}

std::vector<std::string> StopStrings(const ChatFormat& format) {
  switch (format.chat_template) {
    case ChatTemplate::kLlama2:
    case ChatTemplate::kMistral:
      return {"[INST]"};
    case ChatTemplate::kLlama3:
      return {"<|eot_id|>", "<|start_header_id|>"};
    case ChatTemplate::kChatMl:
      return {"<|im_end|>", "<|im_start|>"};
    case ChatTemplate::kZephyr:
      return {"<|user|>", "<|system|>"};
    case ChatTemplate::kAlpaca:
      return {"### Instruction:"};
    case ChatTemplate::kVicuna:
      return {"USER:"};
  }
  return {};
}

}  // namespace sinklora
