// Chat templates by name. No template interpreter: a model's own Jinja text is
// never run.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_
#define SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"

namespace sinklora {

enum class ChatTemplate { kLlama2, kChatMl, kAlpaca };

// "llama-2" (also the empty name), "chatml", "alpaca"; anything else is
// kInvalidArgument with the list.
absl::StatusOr<ChatTemplate> ParseChatTemplate(std::string_view name);
std::string_view ChatTemplateName(ChatTemplate chat_template);

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

// Ids of the chat with its markers and begin token. Prompt and answer are
// tokenized separately, so an answer never merges into its prompt. When the
// last turn is a user's, the ids end where the answer begins. Special tokens
// come from the template alone, never from the content. kInvalidArgument for a
// bad order of roles or an empty chat.
absl::StatusOr<EncodedChat> EncodeChat(const Tokenizer& tokenizer,
                                       ChatTemplate chat_template,
                                       const std::vector<ChatTurn>& turns);
// Strings after which a model tuned with this template has ended its turn,
// beside its end token.
std::vector<std::string> StopStrings(ChatTemplate chat_template);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_H_
