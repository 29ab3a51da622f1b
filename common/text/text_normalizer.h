// The normalizers of tokenizer.json that models of the Llama family have.
//
// Thread-safe once all steps are added.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TEXT_NORMALIZER_H_
#define SINKLORA_COMMON_TEXT_TEXT_NORMALIZER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinklora {

class TextNormalizer {
 public:
  void AddNfc() { steps_.push_back({Step::kNfc, "", ""}); }
  void AddPrepend(std::string prefix) {
    steps_.push_back({Step::kPrepend, "", std::move(prefix)});
  }
  // `from` is not empty.
  void AddReplace(std::string from, std::string to) {
    steps_.push_back({Step::kReplace, std::move(from), std::move(to)});
  }
  bool empty() const { return steps_.empty(); }

  // All steps one after the other; nullopt when they leave the text as it is.
  // Without `may_prepend`, nothing is put before it. REQUIRES: valid UTF-8.
  std::optional<std::string> Normalize(std::string_view text,
                                       bool may_prepend) const;

 private:
  struct Step {
    enum Kind { kNfc, kPrepend, kReplace };
    Kind kind;
    std::string from;
    std::string to;
  };
  std::vector<Step> steps_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TEXT_NORMALIZER_H_
