// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "common/base/status.h"

extern char** environ;

namespace sinklora::testing {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(10);

// Below Linux's ephemeral ports: none that a connection or a server with port 0
// is given while the test hands it to a server of its own.
constexpr int kFirstPort = 20000;
constexpr int kLastPort = 32768;

// The test's environment with changes, as execve wants it.
std::vector<std::string> Environment(
    const std::map<std::string, std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (changes.count(text.substr(0, text.find('='))) == 0) {
      result.push_back(text);
    }
  }
  for (const auto& [name, value] : changes)
    result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> Pointers(std::vector<std::string>* strings) {
  std::vector<char*> pointers;
  for (std::string& text : *strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

void Redirect(const std::string& path, int flags, int target) {
  const int fd = open(path.c_str(), flags, 0600);
  if (fd < 0 || dup2(fd, target) < 0) _exit(127);
  close(fd);
}

}  // namespace

bool WaitUntil(double seconds, const std::function<bool()>& done) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

absl::StatusOr<std::string> ProgramPath(const std::string& name) {
  const char* directory = std::getenv("SINKLORA_BIN_DIR");
  if (directory == nullptr) {
    return absl::NotFoundError("SINKLORA_BIN_DIR is not set");
  }
  const std::string path = JoinPath(directory, name);
  if (!FileExists(path)) return absl::NotFoundError(path + " does not exist");
  return path;
}

absl::StatusOr<int> FreePort() {
  // From the process id on, so that tests that run side by side, of which each
  // takes a few, do not try the same ones.
  static std::atomic<uint32_t> tried{0};
  const auto first = static_cast<uint32_t>(getpid()) * 31;
  for (int i = 0; i < kLastPort - kFirstPort; ++i) {
    const int port = kFirstPort + static_cast<int>((first + tried++) %
                                                   (kLastPort - kFirstPort));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return absl::InternalError("no socket");
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const bool free =
        bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    close(fd);
    if (free) return port;
  }
  return absl::InternalError("no free port");
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const std::vector<std::string>& arguments, const Options& options) {
  SL_ASSIGN_OR_RETURN(std::unique_ptr<TempDir> dir, TempDir::Create());
  SL_RETURN_IF_ERROR(
      WriteFileAtomic(JoinPath(dir->path(), "in"), options.stdin_text));
  // Everything that allocates happens before the fork.
  std::vector<std::string> argv_strings = arguments;
  std::vector<std::string> env_strings = Environment(options.environment);
  std::vector<char*> argv = Pointers(&argv_strings);
  std::vector<char*> env = Pointers(&env_strings);
  const std::string in = JoinPath(dir->path(), "in");
  const std::string out = JoinPath(dir->path(), "out");
  const std::string err = JoinPath(dir->path(), "err");
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("fork failed");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Redirect(in, O_RDONLY, STDIN_FILENO);
    Redirect(out, O_WRONLY | O_CREAT | O_APPEND, STDOUT_FILENO);
    Redirect(err, O_WRONLY | O_CREAT | O_APPEND, STDERR_FILENO);
    execve(argv[0], argv.data(), env.data());
    _exit(127);
  }
  return std::unique_ptr<Process>(new Process(pid, std::move(dir)));
}

Process::~Process() { Kill(); }

std::string Process::out() const {
  return ReadFile(JoinPath(dir_->path(), "out")).value_or("");
}

std::string Process::err() const {
  return ReadFile(JoinPath(dir_->path(), "err")).value_or("");
}

bool Process::Reap() {
  if (ended_) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  ended_ = true;
  exit_code_ =
      WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return true;
}

absl::StatusOr<std::string> Process::WaitForLine(const std::string& text,
                                                 double seconds) {
  std::string line;
  const bool found = WaitUntil(seconds, [&] {
    // In this order: an ended process has printed all it ever will.
    const bool ended = Reap();
    const std::string all = out();
    const size_t at = all.find(text);
    if (at == std::string::npos) return ended;
    const size_t end = all.find('\n', at);
    if (end == std::string::npos) return ended;
    const size_t begin = all.rfind('\n', at) + 1;
    line = all.substr(begin, end - begin);
    return true;
  });
  if (found && !line.empty()) return line;
  return absl::DeadlineExceededError(fmt::format(
      "no line with '{}'{}; stdout:\n{}\nstderr:\n{}", text,
      ended_ ? fmt::format(", exited with {}", exit_code_) : "", out(), err()));
}

void Process::Signal(int number) {
  if (!Reap()) kill(pid_, number);
}

absl::StatusOr<int> Process::WaitForExit(double seconds) {
  if (WaitUntil(seconds, [this] { return Reap(); })) return exit_code_;
  return absl::DeadlineExceededError(
      fmt::format("process {} runs after {} s; stdout:\n{}\nstderr:\n{}", pid_,
                  seconds, out(), err()));
}

void Process::Kill() {
  Signal(SIGKILL);
  // SIGKILL cannot be refused; the wait is short.
  WaitUntil(30, [this] { return Reap(); });
}

absl::StatusOr<CommandResult> RunCommand(
    const std::vector<std::string>& arguments, double seconds,
    const Process::Options& options) {
  SL_ASSIGN_OR_RETURN(const auto process, Process::Start(arguments, options));
  SL_ASSIGN_OR_RETURN(const int exit_code, process->WaitForExit(seconds));
  return CommandResult{exit_code, process->out(), process->err()};
}

}  // namespace sinklora::testing
