// SPDX-License-Identifier: Apache-2.0
#include "services/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <utility>

#include "services/cli/exit_code.h"

namespace sinklora::cli {
namespace {

constexpr char kSignalled = 's';
constexpr char kQuit = 'q';

// Where the signal handler writes: a handler may only touch lock-free atomics
// and call write().
std::atomic<int> signal_fd{-1};

void OnSignal(int) {
  const char byte = kSignalled;
  // A full pipe means that an interrupt waits already.
  [[maybe_unused]] const auto written = write(signal_fd.load(), &byte, 1);
}

}  // namespace

std::unique_ptr<Interrupt> Interrupt::Install() {
  auto interrupt = std::make_unique<Interrupt>();
  int fds[2];
  if (pipe(fds) != 0) return interrupt;
  interrupt->read_fd_ = fds[0];
  signal_fd = fds[1];
  interrupt->listener_ =
      std::thread([self = interrupt.get()] { self->Listen(); });
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  return interrupt;
}

Interrupt::~Interrupt() {
  if (!listener_.joinable()) return;
  signal(SIGINT, SIG_DFL);
  const char byte = kQuit;
  [[maybe_unused]] const auto written = write(signal_fd.load(), &byte, 1);
  listener_.join();
  close(signal_fd.exchange(-1));
  close(read_fd_);
}

void Interrupt::Listen() {
  char byte = 0;
  while (read(read_fd_, &byte, 1) == 1 && byte == kSignalled) Trigger();
}

bool Interrupt::interrupted() const {
  MutexLock lock(&mutex_);
  return interrupted_;
}

void Interrupt::Trigger() {
  MutexLock lock(&mutex_);
  // A second Ctrl-C, or one with nothing to cancel, ends the process: no
  // destructor may be able to run.
  const bool hopeless = interrupted_ || cancels_.empty();
  if (listener_.joinable() && hopeless) std::_Exit(kExitInterrupted);
  interrupted_ = true;
  for (const auto& [id, cancel] : cancels_) cancel();
  changed_.NotifyAll();
}

void Interrupt::Clear() {
  MutexLock lock(&mutex_);
  interrupted_ = false;
}

int64_t Interrupt::Add(std::function<void()> cancel) {
  MutexLock lock(&mutex_);
  if (interrupted_) cancel();
  cancels_[next_id_] = std::move(cancel);
  return next_id_++;
}

void Interrupt::Remove(int64_t id) {
  MutexLock lock(&mutex_);
  cancels_.erase(id);
}

bool Interrupt::WaitFor(std::chrono::milliseconds time) {
  const int64_t id = Add([] {});
  const auto deadline = std::chrono::steady_clock::now() + time;
  bool result = false;
  {
    MutexLock lock(&mutex_);
    while (!interrupted_) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) break;
      changed_.WaitFor(&mutex_, left);
    }
    result = interrupted_;
  }
  Remove(id);
  return result;
}

}  // namespace sinklora::cli
