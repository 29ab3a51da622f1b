// SPDX-License-Identifier: Apache-2.0
#include "common/base/clock.h"

#include <chrono>

namespace sinklora {
namespace {

template <typename StdClock>
int64_t Micros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             StdClock::now().time_since_epoch())
      .count();
}

class SystemClock final : public Clock {
 public:
  int64_t WallMicros() const override {
    return Micros<std::chrono::system_clock>();
  }
  int64_t MonotonicMicros() const override {
    return Micros<std::chrono::steady_clock>();
  }
};

}  // namespace

Clock* RealClock() {
  static Clock* const clock = new SystemClock();
  return clock;
}

}  // namespace sinklora
