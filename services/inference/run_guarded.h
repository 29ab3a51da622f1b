// The engine's barrier for exceptions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_RUN_GUARDED_H_
#define SINKLORA_SERVICES_INFERENCE_RUN_GUARDED_H_

#include <string>

#include "absl/status/status.h"
#include "common/base/exceptions.h"
#include "common/base/log.h"

namespace sinklora::inference {

// Runs a part of one request: whatever it throws is that request's alone.
template <typename Function>
absl::Status RunGuarded(const char* part, const Function& function) {
  std::string what;
  absl::Status status = CatchExceptions(function, &what);
  if (!what.empty()) LogError("{}: {}", part, what);
  return status;
}

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_RUN_GUARDED_H_
