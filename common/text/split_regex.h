// Splits text with the regular expressions that tokenizer.json files carry
// (written for Oniguruma; run by PCRE2 with its just-in-time compiler).
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SPLIT_REGEX_H_
#define SINKLORA_COMMON_TEXT_SPLIT_REGEX_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

// The pre-tokenizer of GPT-2, which ByteLevel with use_regex means.
extern const std::string_view kGpt2Regex;

class SplitRegex {
 public:
  // kInvalidArgument with the position for a syntax error, or naming a
  // construct that means something else in PCRE2 than in Oniguruma (\w, \W, \b,
  // \B, \h, \H, ^ and $ outside a class, nested classes).
  static absl::StatusOr<std::unique_ptr<SplitRegex>> Create(
      std::string_view pattern);
  ~SplitRegex();
  SplitRegex(const SplitRegex&) = delete;
  SplitRegex& operator=(const SplitRegex&) = delete;

  // Calls `consume` with the matches and the text between them, in order:
  // together they are all of `text`. REQUIRES: valid UTF-8. kInvalidArgument
  // when the expression backtracks beyond PCRE2's limits on this text; else the
  // first error of `consume`.
  using Consume = absl::FunctionRef<absl::Status(std::string_view piece)>;
  absl::Status Split(std::string_view text, Consume consume) const;

 private:
  struct Code;
  explicit SplitRegex(std::unique_ptr<Code> code);
  const std::unique_ptr<Code> code_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SPLIT_REGEX_H_
