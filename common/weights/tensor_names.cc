// SPDX-License-Identifier: Apache-2.0
#include "common/weights/tensor_names.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr char kPrefix[] = "model.layers.";

// Layer and what follows it, of "model.layers.<layer>.<rest>"; -1 for others.
std::pair<int64_t, std::string> SplitLayer(const std::string& name) {
  const std::string prefix = kPrefix;
  const size_t dot = name.find('.', prefix.size());
  int64_t layer = -1;
  if (!name.starts_with(prefix) || dot == std::string::npos ||
      !absl::SimpleAtoi(name.substr(prefix.size(), dot - prefix.size()),
                        &layer) ||
      layer < 0) {
    return {-1, name};
  }
  return {layer, name.substr(dot + 1)};
}

// "0-3,7" of ascending numbers.
std::string Ranges(const std::vector<int64_t>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() &&
           numbers[last + 1] == numbers[last] + 1) {
      ++last;
    }
    parts.push_back(last == i
                        ? fmt::format("{}", numbers[i])
                        : fmt::format("{}-{}", numbers[i], numbers[last]));
    i = last + 1;
  }
  return absl::StrJoin(parts, ",");
}

}  // namespace

std::string JoinTensorNames(const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  std::vector<std::string> order;  // of the rests, as they first appear
  std::map<std::string, std::vector<int64_t>> layers;
  for (const std::string& name : names) {
    const auto [layer, rest] = SplitLayer(name);
    if (layer < 0) {
      parts.push_back(fmt::format("'{}'", name));
      continue;
    }
    if (layers[rest].empty()) order.push_back(rest);
    layers[rest].push_back(layer);
  }
  for (const std::string& rest : order) {
    std::vector<int64_t>& list = layers[rest];
    std::sort(list.begin(), list.end());
    const std::string which = list.size() == 1
                                  ? fmt::format("{}", list[0])
                                  : fmt::format("{{{}}}", Ranges(list));
    parts.push_back(fmt::format("'{}{}.{}'", kPrefix, which, rest));
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace sinklora
