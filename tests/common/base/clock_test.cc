// SPDX-License-Identifier: Apache-2.0
#include "common/base/clock.h"

#include <gtest/gtest.h>

#include <ctime>

#include "common/base/cancellation.h"
#include "tests/testing/fake_clock.h"

namespace sinklora {
namespace {

TEST(ClockTest, RealClockMovesForward) {
  const int64_t before = RealClock()->MonotonicMicros();
  EXPECT_GE(RealClock()->MonotonicMicros(), before);
  const int64_t wall_seconds = RealClock()->WallMicros() / 1'000'000;
  // Within a day of the C library's clock: the unit is right.
  EXPECT_LT(std::abs(wall_seconds - int64_t{time(nullptr)}), 86'400);
}

TEST(ClockTest, FakeClockMovesOnlyWhenTold) {
  testing::FakeClock clock;
  const int64_t wall = clock.WallMicros();
  EXPECT_EQ(clock.MonotonicMicros(), 0);
  clock.AdvanceSeconds(1.5);
  EXPECT_EQ(clock.MonotonicMicros(), 1'500'000);
  EXPECT_EQ(clock.WallMicros(), wall + 1'500'000);
}

TEST(CancellationTest, StaysSet) {
  Cancellation cancellation;
  EXPECT_FALSE(cancellation.cancelled());
  cancellation.Cancel();
  cancellation.Cancel();
  EXPECT_TRUE(cancellation.cancelled());
}

}  // namespace
}  // namespace sinklora
