// Regular expressions as Python's `re` reads them, for the patterns in PEFT's
// configurations (run by PCRE2 in the subset where both agree).
//
// Immutable after Create: thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_PYTHON_REGEX_H_
#define SINKLORA_COMMON_WEIGHTS_PYTHON_REGEX_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sinklora {

class PythonRegex {
 public:
  // kInvalidArgument naming the expression and the position for a syntax
  // error, for a construct that Python does not have or that means something
  // else in it, and for more than 4,096 characters.
  static absl::StatusOr<PythonRegex> Create(std::string_view pattern);

  // re.match: from the start of `text`, to anywhere in it. Errors
  // (kInvalidArgument) when the expression backtracks beyond a limit.
  absl::StatusOr<bool> Match(std::string_view text) const;
  // re.fullmatch: all of `text`.
  absl::StatusOr<bool> FullMatch(std::string_view text) const;
  // Match(), and what the named group took; nullopt when it does not match.
  absl::StatusOr<std::optional<std::string>> MatchGroup(std::string_view text,
                                                        const char* name) const;

 private:
  struct Code;
  PythonRegex() = default;
  std::shared_ptr<const Code> code_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PYTHON_REGEX_H_
