// Hash map from std::string that is searched with std::string_view without a
// copy. Abseil's own transparent hash takes absl::string_view only, which
// std::string_view does not convert to.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_STRING_MAP_H_
#define SINKLORA_COMMON_TEXT_STRING_MAP_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"

namespace sinklora {

struct StringViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

template <typename Value>
using StringMap =
    absl::flat_hash_map<std::string, Value, StringViewHash, std::equal_to<>>;

// The keys' bytes belong to someone else and must outlive the map.
template <typename Value>
using StringViewMap = absl::flat_hash_map<std::string_view, Value,
                                          StringViewHash, std::equal_to<>>;

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_STRING_MAP_H_
