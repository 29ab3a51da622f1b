// SPDX-License-Identifier: Apache-2.0
#include "common/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sinklora {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string Logged(LogLevel level, const std::string& message) {
  ::testing::internal::CaptureStderr();
  LogLine(level, message);
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogTest, OneLineWithUtcTimeAndLevel) {
  EXPECT_THAT(Logged(LogLevel::kWarning, "disk is low"),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
                           "[0-9]{2}\\.[0-9]{3}Z warning disk is low\n"));
}

TEST(LogTest, ForeignTextCannotForgeALine) {
  EXPECT_THAT(Logged(LogLevel::kError, "a\nb\x1b[31m\tc\xc3\xa4 {}"),
              HasSubstr(" error a\\nb\\x1b[31m\\x09c\xc3\xa4 {}\n"));
}

TEST(LogTest, LevelFilters) {
  EXPECT_EQ(Logged(LogLevel::kDebug, "x"), "");
  SetLogLevel(LogLevel::kDebug);
  EXPECT_THAT(Logged(LogLevel::kDebug, "x"), HasSubstr(" debug x\n"));
  SetLogLevel(LogLevel::kError);
  EXPECT_EQ(Logged(LogLevel::kWarning, "x"), "");
  SetLogLevel(LogLevel::kInfo);
  ::testing::internal::CaptureStderr();
  LogInfo("{} of {}", 1, "two");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr(" info 1 of two\n"));
}

}  // namespace
}  // namespace sinklora
