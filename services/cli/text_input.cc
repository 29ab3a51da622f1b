// SPDX-License-Identifier: Apache-2.0
#include "services/cli/text_input.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "common/base/files.h"
#include "common/base/status.h"
#include "services/cli/exit_code.h"

namespace sinklora::cli {
namespace {

absl::StatusOr<std::string> ReadAny(Session* session, const TextFlags& flags,
                                    const std::string& text_flag,
                                    const std::string& file_flag) {
  if (!flags.text.empty()) return flags.text;
  if (!flags.file.empty() && flags.file != "-") return ReadFile(flags.file);
  if (flags.file.empty() && session->in_is_terminal()) {
    return UsageError(fmt::format("give the text with {}, {} or on stdin",
                                  text_flag, file_flag));
  }
  return std::string(std::istreambuf_iterator<char>(session->in()), {});
}

std::string NameOf(const TextFlags& flags, const std::string& text_flag) {
  if (!flags.text.empty()) return text_flag;
  return flags.file.empty() || flags.file == "-" ? "stdin" : flags.file;
}

}  // namespace

absl::StatusOr<std::string> ReadText(Session* session, const TextFlags& flags,
                                     const std::string& text_flag,
                                     const std::string& file_flag) {
  SL_ASSIGN_OR_RETURN(std::string text,
                      ReadAny(session, flags, text_flag, file_flag));
  SL_RETURN_IF_ERROR(CheckUtf8(NameOf(flags, text_flag), text));
  return text;
}

absl::Status CheckUtf8(const std::string& what, const std::string& text) {
  try {
    // The JSON library's strict mode is a complete UTF-8 check that says where.
    const std::string checked = nlohmann::json(text).dump();
    return absl::OkStatus();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}: not UTF-8: {}", what, error.what()));
  }
}

}  // namespace sinklora::cli
