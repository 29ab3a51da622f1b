// SPDX-License-Identifier: Apache-2.0
#include "services/curator/name_locks.h"

#include <fmt/format.h>

#include <chrono>

namespace sinklora::curator {
namespace {

// How late a cancellation may be noticed; it wakes nobody by itself.
constexpr std::chrono::milliseconds kPollInterval{50};

}  // namespace

absl::StatusOr<std::unique_ptr<NameLocks::Guard>> NameLocks::Acquire(
    const std::string& name, const CancelledFn& cancelled) {
  MutexLock lock(&mutex_);
  while (!held_.insert(name).second) {
    if (cancelled()) {
      return absl::CancelledError(
          fmt::format("cancelled while another call works on {}", name));
    }
    released_.WaitFor(&mutex_, kPollInterval);
  }
  return std::make_unique<Guard>(this, name);
}

void NameLocks::Release(const std::string& name) {
  MutexLock lock(&mutex_);
  held_.erase(name);
  released_.NotifyAll();
}

}  // namespace sinklora::curator
