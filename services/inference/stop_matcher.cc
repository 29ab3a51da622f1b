// SPDX-License-Identifier: Apache-2.0
#include "services/inference/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sinklora::inference {
namespace {

// Length of the longest end of `text` that begins `stop` without being all of
// it.
size_t PartialMatch(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

std::string StopMatcher::Append(std::string_view piece) {
  if (stopped_) return "";
  held_.append(piece);
  size_t match = std::string::npos;
  for (const std::string& stop : stop_) {
    match = std::min(match, held_.find(stop));
  }
  if (match != std::string::npos) {
    stopped_ = true;
    held_.resize(match);
    return std::exchange(held_, "");
  }
  size_t keep = 0;
  for (const std::string& stop : stop_) {
    keep = std::max(keep, PartialMatch(held_, stop));
  }
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::Finish() { return std::exchange(held_, ""); }

}  // namespace sinklora::inference
