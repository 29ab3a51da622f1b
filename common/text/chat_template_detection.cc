// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template_detection.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/jinja_scan.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
using Bos = ChatFormat::Bos;
using System = ChatFormat::System;
using Found = std::optional<ChatFormat>;

constexpr std::string_view kLine = "\n";
constexpr std::string_view kTwoLines = "\n\n";

bool OnlyMarkers(const JinjaScan& scan,
                 std::initializer_list<std::string_view> allowed) {
  return std::all_of(scan.markers().begin(), scan.markers().end(),
                     [&](const std::string& marker) {
                       return std::find(allowed.begin(), allowed.end(),
                                        marker) != allowed.end();
                     });
}

bool Trims(const JinjaScan& scan) {
  return scan.HasCode("|trim") || scan.HasCode(".strip()");
}

// Literals that read like a system turn of the template's own, without those
// in `known`.
bool HasOtherPersona(const JinjaScan& scan, std::string_view known) {
  return std::any_of(
      scan.literals().begin(), scan.literals().end(),
      [&](const std::string& literal) {
        return literal.find("You are") != std::string::npos &&
               (known.empty() || literal.find(known) == std::string::npos);
      });
}

Found DetectChatMl(const JinjaScan& scan) {
  if (!OnlyMarkers(scan, {"<|im_start|>", "<|im_end|>"}) ||
      !scan.HasLiteral("<|im_start|>assistant\n") ||
      !scan.HasCode("'<|im_start|>'+message") || Trims(scan) ||
      (!scan.HasCode("'<|im_end|>'+'\n'") &&
       !scan.HasLiteral("<|im_end|>\n"))) {
    return std::nullopt;
  }
  ChatFormat format = NamedChatFormat(ChatTemplate::kChatMl);
  format.bos = scan.HasCode("bos_token") ? Bos::kOnce : Bos::kNone;
  for (const std::string& literal : scan.literals()) {
    const std::string_view text = literal;
    if (!text.starts_with(format.system_prefix) ||
        !text.ends_with(format.system_suffix)) {
      continue;
    }
    const size_t size =
        text.size() - format.system_prefix.size() - format.system_suffix.size();
    std::string found(text.substr(format.system_prefix.size(), size));
    if (format.default_system && *format.default_system != found) {
      return std::nullopt;
    }
    format.default_system = std::move(found);
  }
  if (HasOtherPersona(scan, format.default_system.value_or(""))) {
    return std::nullopt;
  }
  return format;
}

Found DetectLlama3(const JinjaScan& scan) {
  if (!OnlyMarkers(scan, {"<|start_header_id|>", "<|end_header_id|>",
                          "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"}) ||
      !scan.HasLiteral("<|start_header_id|>") ||
      !scan.HasLiteral("<|end_header_id|>\n\n") ||
      !scan.HasLiteral("<|start_header_id|>assistant<|end_header_id|>\n\n") ||
      !scan.HasCode("['content']|trim+'<|eot_id|>'") ||
      !scan.HasCode("bos_token") || HasOtherPersona(scan, "")) {
    return std::nullopt;
  }
  ChatFormat format = NamedChatFormat(ChatTemplate::kLlama3);
  if (!scan.HasInLiteral("Knowledge Date") && !scan.HasInLiteral("Today")) {
    return format;
  }
  // Llama 3.1 and later begin every chat with a system turn that names dates.
  constexpr std::string_view kCutting =
      "Cutting Knowledge Date: December 2023\n";
  constexpr std::string_view kDate = "26 Jul 2024";
  if (!scan.HasLiteral(kCutting) || !scan.HasLiteral(kDate) ||
      !scan.HasCode("{{'Today Date: '+date_string+'\n\n'}}")) {
    return std::nullopt;
  }
  format.system_prefix += fmt::format("{}Today Date: {}\n\n", kCutting, kDate);
  format.default_system.emplace();
  return format;
}

// The literal that `if true == true` makes the default system turn in Llama 2's
// templates.
std::string Llama2DefaultSystem(const JinjaScan& scan) {
  if (!scan.HasCode("eliftrue==true")) return std::string();
  constexpr std::string_view kAssignment = "setsystem_message='";
  const size_t at = scan.code().find(kAssignment);
  for (const std::string& literal : scan.literals()) {
    if (at != std::string::npos && !literal.empty() &&
        scan.code().compare(at + kAssignment.size(), literal.size() + 1,
                            fmt::format("{}'", literal)) == 0) {
      return literal;
    }
  }
  return std::string();
}

Found DetectLlama2(const JinjaScan& scan) {
  if (!OnlyMarkers(scan, {}) || !scan.HasLiteral("[INST] ") ||
      !scan.HasLiteral(" [/INST]") || !scan.HasLiteral("<<SYS>>\n") ||
      !scan.HasLiteral("\n<</SYS>>\n\n") || !scan.HasCode("{{' '+content") ||
      !scan.HasCode("+' '+eos_token}}") || !Trims(scan)) {
    return std::nullopt;
  }
  ChatFormat format = NamedChatFormat(ChatTemplate::kLlama2);
  format.bos = scan.HasCode("bos_token+'[INST] '") ? Bos::kBeforeEachUser
               : scan.HasCode("bos_token")         ? Bos::kOnce
                                                   : Bos::kNone;
  if (scan.HasCode("eliftrue==true")) {
    format.default_system = Llama2DefaultSystem(scan);
    if (format.default_system->empty()) return std::nullopt;
  }
  return format;
}

// The one literal of `candidates` that the template has; empty: none or more.
std::string OneOf(const JinjaScan& scan,
                  std::initializer_list<std::string_view> candidates) {
  std::string found;
  for (std::string_view candidate : candidates) {
    if (!scan.HasLiteral(candidate)) continue;
    if (!found.empty()) return std::string();
    found = candidate;
  }
  return found;
}

Found DetectMistral(const JinjaScan& scan) {
  ChatFormat format = NamedChatFormat(ChatTemplate::kMistral);
  format.user_prefix = OneOf(scan, {" [INST] ", "[INST] ", "[INST]"});
  format.user_suffix = OneOf(scan, {" [/INST]", "[/INST]"});
  if (!OnlyMarkers(scan, {}) || scan.HasInLiteral("<<SYS>>") ||
      format.user_prefix.empty() || format.user_suffix.empty() ||
      !scan.HasCode("bos_token") || HasOtherPersona(scan, "")) {
    return std::nullopt;
  }
  // What is printed for an answer, with and without a space before it.
  const bool spaced =
      scan.HasCode("{{' '+message['content']") || scan.HasCode("{{' '+content");
  const bool plain = scan.HasCode("{{message['content']+eos_token") ||
                     scan.HasCode("{{message['content']|trim+eos_token");
  if (spaced == plain) return std::nullopt;
  format.answer_prefix.assign(spaced ? 1 : 0, ' ');
  if (scan.HasCode("+' '+eos_token}}")) format.answer_suffix.assign(1, ' ');
  if (scan.HasCode("+eos_token+' '}}")) format.after_end.assign(1, ' ');
  format.trims = scan.HasCode("content.strip()");
  format.trims_answers = scan.HasCode("['content']|trim+eos_token");
  if (scan.HasCode("loop.lastandsystem_message")) {
    format.system = System::kInLastUser;
  } else if (scan.HasCode("system_message")) {
    format.system = System::kInFirstUser;
  } else {
    format.system = System::kRefused;
  }
  if (scan.HasCode("system_message") && !scan.HasLiteral("\n\n")) {
    return std::nullopt;
  }
  return format;
}

Found DetectZephyr(const JinjaScan& scan) {
  if (!OnlyMarkers(scan, {"<|system|>", "<|user|>", "<|assistant|>"}) ||
      !scan.HasLiteral("<|system|>\n") || !scan.HasLiteral("<|user|>\n") ||
      !scan.HasLiteral("<|assistant|>\n") || Trims(scan) ||
      HasOtherPersona(scan, "")) {
    return std::nullopt;
  }
  // A line feed follows each end token and the last marker: as a literal or as
  // text behind the tag.
  const bool ends_lines =
      scan.HasCode("eos_token+'\n'}}") || scan.HasCode("eos_token}}\n");
  const bool opens_answer = scan.HasCode("{{'<|assistant|>\n'}}") ||
                            scan.HasCode("{{'<|assistant|>'}}\n");
  if (!ends_lines || !opens_answer) return std::nullopt;
  ChatFormat format = NamedChatFormat(ChatTemplate::kZephyr);
  format.bos = scan.HasCode("bos_token") ? Bos::kOnce : Bos::kNone;
  return format;
}

Found DetectAlpaca(const JinjaScan& scan) {
  ChatFormat format = NamedChatFormat(ChatTemplate::kAlpaca);
  if (!OnlyMarkers(scan, {}) || !scan.HasLiteral("### Instruction:\n") ||
      !scan.HasLiteral("### Response:\n") ||
      !scan.HasCode("+eos_token+'\n\n'}}") || !Trims(scan) ||
      HasOtherPersona(scan, "")) {
    return std::nullopt;
  }
  const bool has_preamble = scan.HasInLiteral("Below is an instruction");
  if (has_preamble && !scan.HasLiteral(*format.default_system) &&
      !scan.HasLiteral(fmt::format("{}\n\n", *format.default_system))) {
    return std::nullopt;
  }
  if (!has_preamble) format.default_system.reset();
  format.bos = scan.HasCode("bos_token") ? Bos::kOnce : Bos::kNone;
  return format;
}

Found DetectVicuna(const JinjaScan& scan) {
  ChatFormat format = NamedChatFormat(ChatTemplate::kVicuna);
  if (!OnlyMarkers(scan, {}) || !scan.HasLiteral("USER: ") ||
      !scan.HasLiteral("ASSISTANT: ") || !scan.HasLiteral("ASSISTANT:") ||
      scan.HasInLiteral("SYSTEM:") || HasOtherPersona(scan, "")) {
    return std::nullopt;
  }
  const bool has_preamble = scan.HasInLiteral("A chat between");
  if (has_preamble && !scan.HasInLiteral(*format.default_system)) {
    return std::nullopt;
  }
  if (!has_preamble) format.default_system.reset();
  if (scan.HasCode("eos_token+'\n'}}")) {  // turns end with line feeds
    if (!scan.HasLiteral("\n\n")) return std::nullopt;
    format.system_suffix = kTwoLines;
    format.user_suffix = kLine;
    format.after_end = kLine;
  } else if (!scan.HasCode("+eos_token}}") || !scan.HasLiteral(" ")) {
    return std::nullopt;
  }
  format.trims = Trims(scan);
  format.bos = scan.HasCode("bos_token") ? Bos::kOnce : Bos::kNone;
  return format;
}

// The default of tokenizer_config.json's (chat_template.json's) field.
absl::StatusOr<std::optional<std::string>> FromField(const json& object,
                                                     const std::string& what) {
  const json* field = FindField(object, "chat_template");
  if (field == nullptr) return std::optional<std::string>();
  if (field->is_string()) {
    return std::optional<std::string>(field->get<std::string>());
  }
  if (field->is_array()) {
    for (const json& entry : *field) {
      if (!entry.is_object()) break;
      SL_ASSIGN_OR_RETURN(const auto name, GetString(entry, "name", what));
      SL_ASSIGN_OR_RETURN(const auto text, GetString(entry, "template", what));
      if (name == "default" && text) return text;
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: chat_template is {}, must be a text or a list with one "
                  "named 'default'",
                  what, JsonExcerpt(*field)));
}

}  // namespace

absl::StatusOr<ChatFormat> DetectChatFormat(std::string_view jinja,
                                            const std::string& what) {
  const JinjaScan scan(jinja);
  if (!scan.HasInLiteral("<think>") && !scan.HasInLiteral("</think>")) {
    for (const auto detect :
         {DetectChatMl, DetectLlama3, DetectLlama2, DetectMistral, DetectZephyr,
          DetectAlpaca, DetectVicuna}) {
      if (Found found = detect(scan)) return *std::move(found);
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: the chat template is none of those known ({}), and "
                  "templates are not run; choose one of them by name if it "
                  "fits",
                  what, ChatTemplateNames()));
}

absl::StatusOr<std::optional<std::string>> ReadChatTemplate(
    const std::string& directory) {
  const std::string jinja = JoinPath(directory, "chat_template.jinja");
  if (FileExists(jinja)) {
    SL_ASSIGN_OR_RETURN(std::string text, ReadFile(jinja));
    return std::optional<std::string>(std::move(text));
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const std::string path = JoinPath(directory, name);
    if (!FileExists(path)) continue;
    SL_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
    SL_ASSIGN_OR_RETURN(const json object, ParseJsonObject(content, path));
    SL_ASSIGN_OR_RETURN(auto text, FromField(object, path));
    if (text) return text;
  }
  return std::optional<std::string>();
}

absl::StatusOr<std::optional<ChatFormat>> ReadChatFormat(
    const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const auto text, ReadChatTemplate(directory));
  if (!text) return std::optional<ChatFormat>();
  SL_ASSIGN_OR_RETURN(ChatFormat format, DetectChatFormat(*text, directory));
  return std::optional<ChatFormat>(std::move(format));
}

}  // namespace sinklora
