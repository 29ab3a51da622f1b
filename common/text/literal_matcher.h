// Finds tokens that are taken from a text as a whole, before any splitting.
//
// Thread-safe once all literals are added.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_
#define SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/string_map.h"

namespace sinklora {

class LiteralMatcher {
 public:
  struct Match {
    size_t offset = std::string_view::npos;  // npos: none
    size_t length = 0;
    int32_t id = 0;
  };

  // `literal` is not empty.
  void Add(std::string_view literal, int32_t id);
  // The leftmost match at or behind `from`, the longest at its place.
  Match Find(std::string_view text, size_t from) const;

 private:
  StringMap<int32_t> ids_;
  // Lengths of the literals by first byte, longest first.
  std::array<std::vector<size_t>, 256> lengths_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_
