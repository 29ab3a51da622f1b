// SPDX-License-Identifier: Apache-2.0
#include "common/text/literal_matcher.h"

#include <algorithm>
#include <functional>

namespace sinklora {

void LiteralMatcher::Add(std::string_view literal, int32_t id) {
  ids_[std::string(literal)] = id;
  std::vector<size_t>& lengths = lengths_[static_cast<uint8_t>(literal[0])];
  const auto at = std::lower_bound(lengths.begin(), lengths.end(),
                                   literal.size(), std::greater<>());
  if (at == lengths.end() || *at != literal.size()) {
    lengths.insert(at, literal.size());
  }
}

LiteralMatcher::Match LiteralMatcher::Find(std::string_view text,
                                           size_t from) const {
  if (ids_.empty()) return {};
  for (size_t i = from; i < text.size(); ++i) {
    for (size_t length : lengths_[static_cast<uint8_t>(text[i])]) {
      if (length > text.size() - i) continue;
      const auto it = ids_.find(text.substr(i, length));
      if (it != ids_.end()) return {i, length, it->second};
    }
  }
  return {};
}

}  // namespace sinklora
