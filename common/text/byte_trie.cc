// SPDX-License-Identifier: Apache-2.0
#include "common/text/byte_trie.h"

#include <algorithm>

namespace sinklora {
namespace {

// From this many edges on, a table of 256 is quicker than looking for one.
constexpr uint32_t kDenseEdges = 8;

// Entries [begin, end) share the first `depth` bytes, those that lead to
// `node`.
struct Range {
  uint32_t node;
  size_t begin;
  size_t end;
  size_t depth;
};

}  // namespace

ByteTrie::ByteTrie(std::vector<std::pair<std::string, int32_t>> entries) {
  std::stable_sort(
      entries.begin(), entries.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  nodes_.emplace_back();
  std::vector<Range> open = {{kRoot, 0, entries.size(), 0}};
  // Breadth first, so that the edges of a node lie side by side.
  for (size_t next = 0; next < open.size(); ++next) {
    auto [node, begin, end, depth] = open[next];
    while (begin < end && entries[begin].first.size() == depth) {
      nodes_[node].value = entries[begin++].second;
    }
    nodes_[node].first = static_cast<uint32_t>(labels_.size());
    while (begin < end) {
      const char label = entries[begin].first[depth];
      size_t stop = begin;
      while (stop < end && entries[stop].first[depth] == label) ++stop;
      const auto child = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      labels_.push_back(static_cast<uint8_t>(label));
      children_.push_back(child);
      ++nodes_[node].count;
      open.push_back({child, begin, stop, depth + 1});
      begin = stop;
    }
  }
  for (Node& node : nodes_) {
    if (node.count < kDenseEdges) continue;
    node.dense = static_cast<uint32_t>(dense_.size());
    dense_.resize(dense_.size() + 256, kNone);
    for (uint32_t i = node.first; i < node.first + node.count; ++i) {
      dense_[node.dense + labels_[i]] = children_[i];
    }
  }
}

}  // namespace sinklora
