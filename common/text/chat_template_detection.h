// Recognises the chat template that a model directory carries as Jinja text.
//
// The text is never run. It is taken apart into its string literals, and is one
// of ours only when all of these hold:
//   - it has the literals that the family's templates are made of, with their
//     white space, and the expressions that join them;
//   - every <|marker|> in its literals is one of the family's, or of its tools;
//   - it has no reasoning blocks, which change what is said of earlier turns;
//   - a default system turn is a plain literal, which is then part of the
//     format.
// The parts for tools are not looked at: chats without tools do not use them.
// Llama 3.1 and later name a date: the one that the text falls back to is used.
// Anything else is refused with the list of names; a caller may still choose
// one of those.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_DETECTION_H_
#define SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_DETECTION_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/text/chat_template.h"

namespace sinklora {

// kInvalidArgument naming `what` for a template that is none of those known.
absl::StatusOr<ChatFormat> DetectChatFormat(std::string_view jinja,
                                            const std::string& what);

// The default template of a model directory: chat_template.jinja, else
// tokenizer_config.json's chat_template (a text, or a list of named templates
// of which "default" counts), else chat_template.json's. nullopt: it has none.
// kInvalidArgument for files of another form.
absl::StatusOr<std::optional<std::string>> ReadChatTemplate(
    const std::string& directory);

// Both in one: nullopt when the directory has no template.
absl::StatusOr<std::optional<ChatFormat>> ReadChatFormat(
    const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHAT_TEMPLATE_DETECTION_H_
