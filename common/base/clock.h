// Time as an injected dependency, so that leases and expiry are tested without
// sleeping.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_CLOCK_H_
#define SINKLORA_COMMON_BASE_CLOCK_H_

#include <cstdint>

namespace sinklora {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Microseconds since the Unix epoch; may jump. For timestamps shown to
  // people.
  virtual int64_t WallMicros() const = 0;
  // Microseconds of a clock that never goes back. For durations and leases.
  virtual int64_t MonotonicMicros() const = 0;
};

// The machine's clock. Never destroyed.
Clock* RealClock();

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_CLOCK_H_
