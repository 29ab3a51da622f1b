// A flag that one thread sets and others poll between steps. Thread-safe;
// shared ownership by shared_ptr.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_CANCELLATION_H_
#define SINKLORA_COMMON_BASE_CANCELLATION_H_

#include <atomic>

namespace sinklora {

class Cancellation {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_CANCELLATION_H_
