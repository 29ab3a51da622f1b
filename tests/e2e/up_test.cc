// `sinklora up` as a process.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "common/base/files.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/process.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class UpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(path_, ProgramPath("sinklora"));
    ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
  }
  std::vector<std::string> Up() const {
    return {path_,      "up",          "--data-dir",       dir_->path(),
            "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"};
  }
  absl::StatusOr<CommandResult> List() const {
    return RunCommand({path_, "--data-dir", dir_->path(), "model", "list"},
                      kPatienceSeconds);
  }

  std::string path_;
  std::unique_ptr<TempDir> dir_;
};

TEST_F(UpTest, ServesUntilSigtermAndRefusesASecondOne) {
  for (const int number : {SIGTERM, SIGINT}) {
    ASSERT_OK_AND_ASSIGN(const auto up, Process::Start(Up()));
    ASSERT_THAT(up->WaitForLine("metrics   http://", kPatienceSeconds), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto list, List());
    EXPECT_EQ(list.exit_code, 0) << list.err;
    ASSERT_OK_AND_ASSIGN(const auto second, RunCommand(Up(), kPatienceSeconds));
    EXPECT_EQ(second.exit_code, 1);
    EXPECT_THAT(second.err,
                HasSubstr("in use by process " + std::to_string(up->pid())));
    up->Signal(number);
    ASSERT_OK_AND_ASSIGN(const int code, up->WaitForExit(kPatienceSeconds));
    EXPECT_EQ(code, 0) << up->err();
  }
  ASSERT_OK_AND_ASSIGN(const auto gone, List());
  EXPECT_EQ(gone.exit_code, 3) << gone.err;
}

TEST_F(UpTest, StartsAgainAfterAKill) {
  {
    ASSERT_OK_AND_ASSIGN(const auto up, Process::Start(Up()));
    ASSERT_THAT(up->WaitForLine("metrics   http://", kPatienceSeconds), IsOk());
    up->Kill();
  }
  ASSERT_OK_AND_ASSIGN(const auto up, Process::Start(Up()));
  ASSERT_THAT(up->WaitForLine("metrics   http://", kPatienceSeconds), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto list, List());
  EXPECT_EQ(list.exit_code, 0) << list.err;
}

TEST_F(UpTest, ComputesWithTheInstructionSetItIsTold) {
  std::vector<std::string> command = Up();
  for (const char* word : {"--log-level", "info", "--cpu-isa", "portable"}) {
    command.push_back(word);
  }
  ASSERT_OK_AND_ASSIGN(const auto up, Process::Start(command));
  ASSERT_THAT(up->WaitForLine("metrics   http://", kPatienceSeconds), IsOk());
  EXPECT_THAT(up->err(),
              AllOf(ContainsRegex("inference computes on cpu.*portable"),
                    ContainsRegex("worker computes on cpu.*portable")));
}

}  // namespace
}  // namespace sinklora::testing
