// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <regex>

#include "common/base/files.h"
#include "tests/testing/http_get.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::HttpGet;
using ::testing::HasSubstr;

// A running echo_process.
class Child {
 public:
  Child(const std::string& error_file, std::vector<std::string> arguments) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(
        &actions, STDERR_FILENO, error_file.c_str(), O_WRONLY | O_CREAT, 0600);
    arguments.insert(arguments.begin(), ECHO_PROCESS);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, ECHO_PROCESS, &actions, nullptr, argv.data(),
                          environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    output_ = fdopen(ends[0], "r");
  }
  ~Child() { fclose(output_); }

  std::string ReadLine() {
    char line[256] = {};
    return fgets(line, sizeof(line), output_) != nullptr ? line : "";
  }
  void Signal(int number) { kill(pid_, number); }
  int ExitCode() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  FILE* output_ = nullptr;
};

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    errors_ = JoinPath(temp_->path(), "stderr");
  }
  std::unique_ptr<TempDir> temp_;
  std::string errors_;
};

TEST_F(ProcessTest, AnnouncesItselfServesMetricsAndStopsOnASignal) {
  for (const int number : {SIGTERM, SIGINT}) {
    Child child(errors_, {"--listen=127.0.0.1:0"});
    const std::string line = child.ReadLine();
    std::smatch match;
    ASSERT_TRUE(std::regex_match(
        line, match,
        std::regex("listening on 127\\.0\\.0\\.1:([0-9]+), metrics "
                   "http://127\\.0\\.0\\.1:([0-9]+)/metrics\n")))
        << line;
    ASSERT_OK_AND_ASSIGN(const std::string metrics,
                         HttpGet(std::stoi(match[2]), "/metrics"));
    EXPECT_THAT(metrics, HasSubstr("sinklora_test_up 1\n"));
    child.Signal(SIGPIPE);
    child.Signal(SIGXFSZ);
    child.Signal(number);
    EXPECT_EQ(child.ExitCode(), 0);
  }
}

TEST_F(ProcessTest, StopsByItself) {
  Child child(errors_, {"--stop-at-once"});
  EXPECT_THAT(child.ReadLine(), HasSubstr("listening on"));
  EXPECT_EQ(child.ExitCode(), 0);
}

TEST_F(ProcessTest, FailedStartsSayWhyAndExitWith1) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {"--fail-with=disk is gone", "disk is gone"},
      {"--listen=0.0.0.0:0", "0.0.0.0:0"},
      {"--metrics-listen=0.0.0.0:0", "--metrics-listen"},
      {"--log-level=loud", "loud"},
      {"--no-such-flag", "no_such_flag"}};
  for (const auto& [argument, message] : table) {
    Child child(errors_, {argument});
    EXPECT_EQ(child.ReadLine(), "");
    EXPECT_EQ(child.ExitCode(), 1) << argument;
    EXPECT_THAT(ReadFile(errors_).value(), HasSubstr(message));
    ASSERT_OK(RemoveAll(errors_));
  }
}

TEST_F(ProcessTest, HelpNamesTheFlags) {
  Child child(errors_, {"--help"});
  std::string help;
  for (std::string line = child.ReadLine(); !line.empty();
       line = child.ReadLine()) {
    help += line;
  }
  child.ExitCode();
  EXPECT_THAT(help, HasSubstr("--listen"));
  EXPECT_THAT(help, HasSubstr("--metrics_listen"));
}

}  // namespace
}  // namespace sinklora
