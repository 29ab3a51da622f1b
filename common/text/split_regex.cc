// SPDX-License-Identifier: Apache-2.0
#include "common/text/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Unicode's White_Space. PCRE2's own \s under UCP also takes U+180E, which the
// engines behind the published tokenizers do not.
constexpr std::string_view kWhiteSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}"
    "\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

absl::Status Unsupported(std::string_view construct, size_t offset) {
  return absl::InvalidArgumentError(
      fmt::format("regular expression: {} at offset {} is not supported",
                  construct, offset));
}

// Appends the escape at `i` (a backslash) and returns the offset behind it.
absl::StatusOr<size_t> TranslateEscape(std::string_view pattern, size_t i,
                                       bool in_class, std::string* out) {
  if (i + 1 >= pattern.size()) return Unsupported("a trailing backslash", i);
  const char c = pattern[i + 1];
  switch (c) {
    case 's':
      *out += in_class ? std::string(kWhiteSpace)
                       : fmt::format("[{}]", kWhiteSpace);
      return i + 2;
    case 'S':
      if (in_class) return Unsupported("\\S inside a class", i);
      *out += fmt::format("[^{}]", kWhiteSpace);
      return i + 2;
    case 'w':
    case 'W':
    case 'b':
    case 'B':
    case 'h':
    case 'H':
      return Unsupported(pattern.substr(i, 2), i);
    default:
      *out += pattern.substr(i, 2);
      return i + 2;
  }
}

absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  size_t class_start = 0;  // offset of the first member of the open class
  for (size_t i = 0; i < pattern.size();) {
    const char c = pattern[i];
    if (c == '\\') {
      SL_ASSIGN_OR_RETURN(i, TranslateEscape(pattern, i, in_class, &out));
      continue;
    }
    if (!in_class && (c == '^' || c == '$')) {
      return Unsupported(pattern.substr(i, 1), i);
    }
    if (in_class && (c == '[' || pattern.substr(i, 2) == "&&")) {
      return Unsupported("a nested class", i);
    }
    out.push_back(c);
    ++i;
    if (!in_class && c == '[') {
      in_class = true;
      if (i < pattern.size() && pattern[i] == '^') {
        out.push_back('^');
        ++i;
      }
      class_start = i;
    } else if (in_class && c == ']' && i - 1 != class_start) {
      in_class = false;
    }
  }
  return out;
}

std::string Pcre2Message(int code) {
  PCRE2_UCHAR buffer[160] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

const std::string_view kGpt2Regex =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

struct SplitRegex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

SplitRegex::SplitRegex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
SplitRegex::~SplitRegex() = default;

absl::StatusOr<std::unique_ptr<SplitRegex>> SplitRegex::Create(
    std::string_view pattern) {
  SL_ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto code = std::make_unique<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                             translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                             &error, &error_offset, nullptr);
  if (code->code == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("regular expression '{}': {} at offset {}", translated,
                    Pcre2Message(error), error_offset));
  }
  // Without a JIT for this processor the interpreter gives the same answers.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<SplitRegex>(new SplitRegex(std::move(code)));
}

absl::Status SplitRegex::Split(std::string_view text, Consume consume) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> match(
      pcre2_match_data_create(1, nullptr));
  if (match == nullptr) {
    return absl::ResourceExhaustedError("regular expression: out of memory");
  }
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(match.get());
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t done = 0;    // everything before it is consumed
  size_t search = 0;  // where the next match is looked for
  while (search < text.size()) {
    // The caller checked the text; checking again at each match would make
    // splitting quadratic.
    int rc = pcre2_match(code_->code, subject, text.size(), search,
                         PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_->code, subject, text.size(), search,
                       PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.get(), nullptr);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::InvalidArgumentError(
          fmt::format("regular expression failed at byte {} of the text: {}",
                      search, Pcre2Message(rc)));
    }
    if (range[1] <= range[0]) {  // an empty match splits nothing
      search = std::max<size_t>(search, range[0]) + 1;
      while (search < text.size() && (text[search] & 0xC0) == 0x80) ++search;
      continue;
    }
    const size_t begin = range[0];
    const size_t end = range[1];
    if (begin > done) {
      SL_RETURN_IF_ERROR(consume(text.substr(done, begin - done)));
    }
    SL_RETURN_IF_ERROR(consume(text.substr(begin, end - begin)));
    done = search = end;
  }
  return done < text.size() ? consume(text.substr(done)) : absl::OkStatus();
}

}  // namespace sinklora
