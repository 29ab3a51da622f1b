// Real child processes for tests: start, read what they print, signal, wait.
// Every wait has a deadline. The children die with the test.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_E2E_PROCESS_H_
#define SINKLORA_TESTS_E2E_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/files.h"

namespace sinklora::testing {

// Calls `done` every few milliseconds until it is true; false when `seconds`
// passed first. The one place where tests wait for another process.
bool WaitUntil(double seconds, const std::function<bool()>& done);

// Path of a program of the product. kNotFound when SINKLORA_BIN_DIR is not set
// or does not have it.
absl::StatusOr<std::string> ProgramPath(const std::string& name);

// A port of 127.0.0.1 that nobody listens on now, outside the range from which
// the system gives ports away, and another one at each call.
absl::StatusOr<int> FreePort();

class Process {
 public:
  struct Options {
    std::string stdin_text;
    std::map<std::string, std::string> environment;  // on top of the test's
  };
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const std::vector<std::string>& arguments, const Options& options = {});
  ~Process();  // kill -9
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // All of stdout and stderr so far.
  std::string out() const;
  std::string err() const;
  // The first whole line of stdout that contains `text`. kDeadlineExceeded,
  // with what was printed, when it does not come; at once when the process
  // ended.
  absl::StatusOr<std::string> WaitForLine(const std::string& text,
                                          double seconds);
  void Signal(int number);
  // The exit code, 128 + signal for a process that a signal ended.
  // kDeadlineExceeded when it runs on.
  absl::StatusOr<int> WaitForExit(double seconds);
  bool running() { return !Reap(); }
  // Signal(SIGKILL) and reap.
  void Kill();

 private:
  Process(pid_t pid, std::unique_ptr<TempDir> dir)
      : pid_(pid), dir_(std::move(dir)) {}
  // True when it has ended.
  bool Reap();

  const pid_t pid_;
  const std::unique_ptr<TempDir> dir_;
  bool ended_ = false;
  int exit_code_ = -1;
};

struct CommandResult {
  int exit_code = -1;
  std::string out;
  std::string err;
};
// Starts a program and waits for its end.
absl::StatusOr<CommandResult> RunCommand(
    const std::vector<std::string>& arguments, double seconds,
    const Process::Options& options = {});

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_E2E_PROCESS_H_
