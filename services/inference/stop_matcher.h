// Ends a growing text at the first of a few stop strings.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_STOP_MATCHER_H_
#define SINKLORA_SERVICES_INFERENCE_STOP_MATCHER_H_

#include <string>
#include <string_view>
#include <vector>

namespace sinklora::inference {

// Text that may turn out to be the beginning of a stop string is held back
// until it is decided, so no part of a stop string is ever handed out, however
// the text is cut into pieces. Whole UTF-8 characters in, whole characters out.
class StopMatcher {
 public:
  // REQUIRES: stop strings are not empty and valid UTF-8.
  explicit StopMatcher(std::vector<std::string> stop)
      : stop_(std::move(stop)) {}

  // Appends `piece`; returns the text that is certain now. After a match
  // everything further is dropped.
  std::string Append(std::string_view piece);
  // End of the text: what was held back. Empty after a match.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_STOP_MATCHER_H_
