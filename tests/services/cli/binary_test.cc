// The real `sinklora` program: exit codes, output streams, Ctrl-C.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/process.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kSeconds = 60;

class CliBinaryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(path_, ProgramPath("sinklora"));
  }
  std::string path_;
};

TEST_F(CliBinaryTest, ExitCodes) {
  ASSERT_OK_AND_ASSIGN(const auto version,
                       RunCommand({path_, "version"}, kSeconds));
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out, "sinklora 0.1.0\n");
  ASSERT_OK_AND_ASSIGN(const auto usage, RunCommand({path_, "x"}, kSeconds));
  EXPECT_EQ(usage.exit_code, 1);
  ASSERT_OK_AND_ASSIGN(
      const auto missing,
      RunCommand({path_, "--data-dir", "/does/not/exist", "model", "list"},
                 kSeconds));
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("/does/not/exist/endpoint.json"));
  ASSERT_OK_AND_ASSIGN(const int port, FreePort());
  Process::Options options;
  options.environment["SINKLORA_SERVER"] = "127.0.0.1:" + std::to_string(port);
  ASSERT_OK_AND_ASSIGN(const auto down,
                       RunCommand({path_, "model", "list"}, kSeconds, options));
  EXPECT_EQ(down.exit_code, 4);
  EXPECT_THAT(down.err, HasSubstr(std::to_string(port)));
}

TEST_F(CliBinaryTest, UpShowsTheServersHelp) {
  ASSERT_OK_AND_ASSIGN(const auto help,
                       RunCommand({path_, "up", "--help"}, kSeconds));
  EXPECT_EQ(help.exit_code, 0) << help.err;
  EXPECT_THAT(help.out, HasSubstr("--metrics-listen"));
  EXPECT_THAT(help.out, HasSubstr("Example:"));
}

TEST_F(CliBinaryTest, ClosedPipeIsNoCrash) {
  ASSERT_OK_AND_ASSIGN(
      const auto result,
      RunCommand({"/bin/sh", "-c", path_ + " --help | true"}, kSeconds));
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

}  // namespace
}  // namespace sinklora::testing
