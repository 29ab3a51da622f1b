// SPDX-License-Identifier: Apache-2.0
#include "common/weights/python_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
// Steps of one match on a module name; honest patterns need some hundreds.
constexpr uint32_t kMatchLimit = 20'000;

absl::Status Bad(std::string_view pattern, std::string_view what, size_t at) {
  return absl::InvalidArgumentError(fmt::format(
      "regular expression '{}': {} at offset {}", pattern, what, at));
}

bool IsAlnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z');
}

// Escapes with the same meaning in both; of letters only these.
bool IsSharedEscape(char c) {
  constexpr std::string_view kLetters = "dDsSwWbBAZtnrfv";
  return !IsAlnum(c) || (c >= '0' && c <= '9') ||
         kLetters.find(c) != std::string_view::npos;
}

// What may follow "(?". Flags in the middle are an error in Python too.
bool IsSharedGroup(std::string_view rest, bool at_start) {
  for (const char* start : {":", "=", "!", "<=", "<!", "P<", "P=", "i:"}) {
    if (rest.starts_with(start)) return true;
  }
  return at_start && rest.starts_with("i)");
}

// Refuses what PCRE2 would accept and Python would not, or reads differently.
absl::Status CheckShared(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view rest = pattern.substr(i);
    if (rest[0] == '\\') {
      if (rest.size() < 2) return Bad(pattern, "a trailing backslash", i);
      if (!IsSharedEscape(rest[1])) {
        return Bad(pattern, fmt::format("\\{} is not supported", rest[1]), i);
      }
      ++i;
      continue;
    }
    for (const char* differs : {"(*", "[[:", "[[.", "[[=", "{,"}) {
      if (rest.starts_with(differs)) {
        return Bad(pattern, fmt::format("{} is not supported", differs), i);
      }
    }
    if (rest.starts_with("(?") && !IsSharedGroup(rest.substr(2), i == 0)) {
      return Bad(pattern, fmt::format("{} is not supported", rest.substr(0, 3)),
                 i);
    }
  }
  return absl::OkStatus();
}

std::string Pcre2Message(int code) {
  PCRE2_UCHAR buffer[160] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

}  // namespace

struct PythonRegex::Code {
  std::string pattern;
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }

  absl::StatusOr<bool> Run(std::string_view text, uint32_t options,
                           pcre2_match_data* match) const {
    const int rc = pcre2_match(
        code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
        PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK | options, match, context);
    if (rc >= 0) return true;
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    return absl::InvalidArgumentError(
        fmt::format("regular expression '{}' fails on '{}': {}", pattern, text,
                    Pcre2Message(rc)));
  }
};

absl::StatusOr<PythonRegex> PythonRegex::Create(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        fmt::format("a regular expression has {} characters, at most {} are "
                    "allowed",
                    pattern.size(), kMaxPatternBytes));
  }
  SL_RETURN_IF_ERROR(CheckShared(pattern));
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                    pattern.size(), PCRE2_UTF, &error, &offset, nullptr);
  if (code->code == nullptr) return Bad(pattern, Pcre2Message(error), offset);
  code->context = pcre2_match_context_create(nullptr);
  if (code->context == nullptr) {
    return absl::ResourceExhaustedError("regular expression: out of memory");
  }
  pcre2_set_match_limit(code->context, kMatchLimit);
  PythonRegex out;
  out.code_ = std::move(code);
  return out;
}

absl::StatusOr<bool> PythonRegex::Match(std::string_view text) const {
  const MatchData match(
      pcre2_match_data_create_from_pattern(code_->code, nullptr));
  return code_->Run(text, 0, match.get());
}

absl::StatusOr<bool> PythonRegex::FullMatch(std::string_view text) const {
  const MatchData match(
      pcre2_match_data_create_from_pattern(code_->code, nullptr));
  return code_->Run(text, PCRE2_ENDANCHORED, match.get());
}

absl::StatusOr<std::optional<std::string>> PythonRegex::MatchGroup(
    std::string_view text, const char* name) const {
  const MatchData match(
      pcre2_match_data_create_from_pattern(code_->code, nullptr));
  SL_ASSIGN_OR_RETURN(const bool found, code_->Run(text, 0, match.get()));
  if (!found) return std::optional<std::string>();
  PCRE2_UCHAR* value = nullptr;
  PCRE2_SIZE length = 0;
  if (pcre2_substring_get_byname(match.get(),
                                 reinterpret_cast<PCRE2_SPTR>(name), &value,
                                 &length) != 0) {
    return std::optional<std::string>();
  }
  std::string out(reinterpret_cast<const char*>(value), length);
  pcre2_substring_free(value);
  return std::optional<std::string>(std::move(out));
}

}  // namespace sinklora
