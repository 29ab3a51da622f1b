// A fixed set of byte strings with a number each, searched byte by byte.
//
// Thread-safe (immutable).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BYTE_TRIE_H_
#define SINKLORA_COMMON_TEXT_BYTE_TRIE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sinklora {

class ByteTrie {
 public:
  // Keys are not empty; of equal keys the last one counts. Values are not
  // negative.
  explicit ByteTrie(std::vector<std::pair<std::string, int32_t>> entries);

  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  // The node behind `byte`, or kNone.
  uint32_t Step(uint32_t node, char byte) const {
    const Node& from = nodes_[node];
    const auto wanted = static_cast<uint8_t>(byte);
    if (from.dense != kNone) return dense_[from.dense + wanted];
    for (uint32_t i = from.first; i < from.first + from.count; ++i) {
      if (labels_[i] == wanted) return children_[i];
    }
    return kNone;
  }
  // The number of the key that ends in `node`, or -1.
  int32_t value(uint32_t node) const { return nodes_[node].value; }

 private:
  struct Node {
    int32_t value = -1;
    uint32_t first = 0;      // of its edges
    uint32_t count = 0;      // of its edges
    uint32_t dense = kNone;  // of its 256 edges in dense_, when it has many
  };
  std::vector<Node> nodes_;
  std::vector<uint8_t> labels_;
  std::vector<uint32_t> children_;
  std::vector<uint32_t> dense_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BYTE_TRIE_H_
