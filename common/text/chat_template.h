// Chat templates: what stands around the turns of a chat. No template
// interpreter: a model's own Jinja text is recognised
// (chat_template_detection.h), never run.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_
#define SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"

namespace sinklora {

enum class ChatTemplate {
  kLlama2,
  kLlama3,
  kChatMl,
  kMistral,
  kZephyr,
  kAlpaca,
  kVicuna
};

// "llama-2" (also the empty name), "llama-3", "chatml", "mistral", "zephyr",
// "alpaca", "vicuna"; anything else is kInvalidArgument with the list.
absl::StatusOr<ChatTemplate> ParseChatTemplate(std::string_view name);
std::string_view ChatTemplateName(ChatTemplate chat_template);
// "llama-2, llama-3, ..." for messages.
std::string ChatTemplateNames();

// A template in full. Models of one family differ in the details.
struct ChatFormat {
  enum class Bos {
    kNone,
    kLikeTexts,  // once, if the tokenizer puts it before texts
    kOnce,
    kBeforeEachUser
  };
  // Where the text of a system turn goes. Some models' own templates drop one
  // that belongs into the last user's turn when the chat ends with an answer;
  // it is kept here.
  enum class System { kRefused, kOwnTurn, kInFirstUser, kInLastUser };

  ChatTemplate chat_template = ChatTemplate::kLlama2;
  Bos bos = Bos::kOnce;
  System system = System::kOwnTurn;
  // The system turn of chats without one; nullopt: they have none.
  std::optional<std::string> default_system = std::nullopt;
  // Special tokens in these are tokens where the tokenizer has them, and text
  // where not; "</s>" is the end token, whatever its text.
  std::string system_prefix = {}, system_suffix = {};
  std::string user_prefix = {}, user_suffix = {};
  std::string assistant_prefix = {};  // the last of a prompt
  // Around an answer, to be learnt as it is.
  std::string answer_prefix = {}, answer_suffix = {};
  std::string end_token =
      {};  // after answer_suffix; empty: the tokenizer's own
  std::string after_end = {};
  bool trims = false;          // white space around the turns' texts
  bool trims_answers = false;  // around answers alone
};

// The format that the name alone stands for: Llama 2 Chat; Llama 3 Instruct;
// ChatML without a default system turn; Mistral Instruct v0.1 and v0.2; Zephyr
// and TinyLlama Chat; Alpaca's instruction format; Vicuna v1.1 of FastChat.
const ChatFormat& NamedChatFormat(ChatTemplate chat_template);

struct ChatTurn {
  std::string role;  // "system" (first only), "user", "assistant"; users and
                     // assistants alternate
  std::string content;
};

struct EncodedChat {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> supervised;  // 1 for tokens of assistant turns and the
                                    // end token after them
};

// Ids of the chat with its markers and begin token: those of the text that the
// template renders, but prompt and answer are tokenized separately, so an
// answer never merges into its prompt. When the last turn is a user's, the ids
// end where the answer begins. Special tokens come from the template alone,
// never from the content. kInvalidArgument for a bad order of roles, an empty
// chat, a system turn where the template has no place for it.
absl::StatusOr<EncodedChat> EncodeChat(const Tokenizer& tokenizer,
                                       const ChatFormat& format,
                                       const std::vector<ChatTurn>& turns);
// Strings after which a model tuned with this template has ended its turn,
// beside its end token.
std::vector<std::string> StopStrings(const ChatFormat& format);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_
