// SPDX-License-Identifier: Apache-2.0
#include "services/cli/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "services/cli/format.h"
#include "services/cli/progress.h"
#include "tests/testing/fake_clock.h"

namespace sinklora::cli {
namespace {

using ::testing::HasSubstr;

TEST(TableTest, AlignsColumns) {
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}, {"NOTE"}});
  table.AddRow({"a", "1,024", "one\ntwo"});
  table.AddRow({"längere", "7", ""});
  EXPECT_EQ(table.Render(false),
            "NAME      SIZE  NOTE\n"
            "a        1,024  one two\n"
            "längere      7\n");
}

TEST(TableTest, OnlyTheHeaderIsBold) {
  Table table({{"NAME"}});
  table.AddRow({"a"});
  EXPECT_EQ(table.Render(true), "\033[1mNAME\033[0m\na\n");
}

TEST(FormatTest, Numbers) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(-1234567), "-1,234,567");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(FormatSeconds(0.25), "250 ms");
  EXPECT_EQ(FormatSeconds(247), "4m07s");
  EXPECT_EQ(FormatSeconds(7500), "2h05m");
  EXPECT_EQ(FormatSeconds(-1), "-");
  EXPECT_EQ(FormatShare(0.5), "50.0 %");
}

TEST(ProgressTest, ShowsShareRateAndTimeLeft) {
  std::ostringstream err;
  Output output({.out = nullptr, .err = &err, .err_is_terminal = true});
  testing::FakeClock clock;
  Progress progress(&output, &clock, "sending", Progress::Unit::kBytes, "",
                    4096);
  clock.AdvanceSeconds(2);
  progress.Set(1024);
  EXPECT_EQ(progress.Line(),
            "sending  [######..................]  25 %  1.0 KiB/4.0 KiB  512 "
            "B/s  6.0 s left");
  EXPECT_THAT(err.str(), HasSubstr("25 %"));
}

TEST(ProgressTest, DrawsAtMostTenTimesASecond) {
  std::ostringstream err;
  Output output({.out = nullptr, .err = &err, .err_is_terminal = true});
  testing::FakeClock clock;
  Progress progress(&output, &clock, "scoring", Progress::Unit::kCount,
                    "tokens", 1000);
  clock.AdvanceSeconds(1);
  progress.Set(1);
  const std::string drawn = err.str();
  clock.AdvanceSeconds(0.05);
  progress.Set(2);
  EXPECT_EQ(err.str(), drawn);
  progress.Set(1000);
  EXPECT_THAT(err.str(), HasSubstr("100 %"));
}

TEST(ProgressTest, PrintsNothingOutsideATerminal) {
  std::ostringstream err;
  Output output({.out = nullptr, .err = &err});
  testing::FakeClock clock;
  {
    Progress progress(&output, &clock, "x", Progress::Unit::kCount, "y", 10);
    progress.Set(10);
  }
  EXPECT_EQ(err.str(), "");
}

TEST(OutputTest, TextReplacesTheStatusLine) {
  std::ostringstream out;
  std::ostringstream err;
  Output output({.out = &out, .err = &err, .err_is_terminal = true});
  output.SetStatusLine("busy");
  output.Print("result\n");
  EXPECT_EQ(out.str(), "result\n");
  EXPECT_EQ(err.str(), "\r\033[Kbusy\r\033[K");
}

}  // namespace
}  // namespace sinklora::cli
