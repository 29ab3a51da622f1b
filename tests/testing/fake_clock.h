// A clock that stands still until the test moves it. Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_FAKE_CLOCK_H_
#define SINKLORA_TESTS_TESTING_FAKE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "common/base/clock.h"

namespace sinklora::testing {

class FakeClock final : public Clock {
 public:
  // Starts at 2001-09-09 01:46:40 UTC.
  explicit FakeClock(int64_t wall_micros = 1'000'000'000'000'000)
      : wall_micros_(wall_micros) {}

  int64_t WallMicros() const override { return wall_micros_ + elapsed_; }
  int64_t MonotonicMicros() const override { return elapsed_; }

  void AdvanceMicros(int64_t micros) { elapsed_ += micros; }
  void AdvanceSeconds(double seconds) {
    AdvanceMicros(static_cast<int64_t>(seconds * 1e6));
  }

 private:
  const int64_t wall_micros_;
  std::atomic<int64_t> elapsed_{0};
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_FAKE_CLOCK_H_
