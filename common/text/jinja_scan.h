// A Jinja template taken apart, not run: what it may print and how it joins it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_JINJA_SCAN_H_
#define SINKLORA_COMMON_TEXT_JINJA_SCAN_H_

#include <string>
#include <string_view>
#include <vector>

namespace sinklora {

class JinjaScan {
 public:
  explicit JinjaScan(std::string_view jinja);

  // True when a literal is (contains) `text`. Literals that are only keys,
  // comparisons or messages of exceptions count too.
  bool HasLiteral(std::string_view text) const;
  bool HasInLiteral(std::string_view text) const;
  // The code of all tags one after the other, without white space between its
  // words, literals in single quotes with their escapes undone, dashes of tags
  // dropped: "{{content+'\n'}}".
  bool HasCode(std::string_view code) const {
    return code_.find(code) != std::string::npos;
  }
  const std::string& code() const { return code_; }
  const std::vector<std::string>& literals() const { return literals_; }
  // Every "<|...|>" in literals.
  const std::vector<std::string>& markers() const { return markers_; }

 private:
  size_t ScanTag(std::string_view jinja, size_t i);
  size_t ScanLiteral(std::string_view jinja, size_t i);
  void FindMarkers();

  std::string code_;
  std::vector<std::string> literals_;
  std::vector<std::string> markers_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_JINJA_SCAN_H_
