// SPDX-License-Identifier: Apache-2.0
#include "common/text/character_map.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// A unit of the array, as the Darts library packs it.
uint32_t Label(uint32_t unit) { return unit & (uint32_t{1} << 31 | 0xFF); }
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Offset(uint32_t unit) {
  return (unit >> 10) << ((unit & uint32_t{1} << 9) >> 6);
}
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }

constexpr size_t kMaxKeyBytes = 256;

uint32_t ReadUint32(std::string_view data, size_t i) {
  uint32_t value = 0;
  for (int b = 3; b >= 0; --b) {
    value = value << 8 | static_cast<uint8_t>(data[i + b]);
  }
  return value;
}

}  // namespace

absl::StatusOr<CharacterMap> CharacterMap::Parse(std::string_view data,
                                                 const std::string& what) {
  const uint64_t trie_bytes = data.size() < 4 ? 0 : ReadUint32(data, 0);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes + 4 >= data.size() ||
      data.back() != '\0') {
    return absl::InvalidArgumentError(fmt::format(
        "{}: precompiled_charsmap of {} bytes claims a trie of {} bytes; it "
        "must be a multiple of 4 that leaves room for replacements ended by "
        "NUL",
        what, data.size(), trie_bytes));
  }
  std::vector<uint32_t> units(trie_bytes / 4);
  for (size_t i = 0; i < units.size(); ++i) {
    units[i] = ReadUint32(data, 4 + 4 * i);
  }
  CharacterMap map(std::move(units), std::string(data.substr(4 + trie_bytes)));
  SL_RETURN_IF_ERROR(map.Check(what));
  return map;
}

// Visits every node that a lookup can reach.
absl::Status CharacterMap::Check(const std::string& what) const {
  const auto broken = [&](const char* part, uint32_t place) {
    return absl::InvalidArgumentError(
        fmt::format("{}: precompiled_charsmap: {} {} is outside the data or "
                    "not UTF-8",
                    what, part, place));
  };
  std::vector<bool> seen(units_.size());
  std::vector<uint32_t> open = {Offset(units_[0])};
  while (!open.empty()) {
    const uint32_t base = open.back();
    open.pop_back();
    // A block of 256 units holds all children of a node.
    if ((base | 0xFF) >= units_.size()) return broken("node", base);
    if (seen[base]) continue;
    seen[base] = true;
    for (uint32_t c = 0; c < 256; ++c) {
      const uint32_t place = base ^ c;
      const uint32_t unit = units_[place];
      if (Label(unit) != c) continue;
      const uint32_t child = place ^ Offset(unit);
      if (child >= units_.size()) return broken("node", child);
      if (HasLeaf(unit)) {
        const uint32_t value = Value(units_[child]);
        if (value >= replacements_.size() ||
            FindInvalidUtf8(Replacement(value)) != std::string_view::npos) {
          return broken("replacement", value);
        }
      }
      open.push_back(child);
    }
  }
  return absl::OkStatus();
}

std::string_view CharacterMap::Replacement(uint32_t value) const {
  const std::string_view rest = std::string_view(replacements_).substr(value);
  return rest.substr(0, rest.find('\0'));
}

CharacterMap::Match CharacterMap::Find(std::string_view text, size_t i) const {
  Match match;
  uint32_t node = Offset(units_[0]);
  const size_t end = std::min(text.size(), i + kMaxKeyBytes);
  for (size_t at = i; at < end; ++at) {
    const auto c = static_cast<uint8_t>(text[at]);
    node ^= c;
    const uint32_t unit = units_[node];
    if (Label(unit) != c) break;
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    match.length = at + 1 - i;
    match.replacement = Replacement(Value(units_[node]));
  }
  return match;
}

}  // namespace sinklora
