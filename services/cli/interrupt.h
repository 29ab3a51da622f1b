// Ctrl-C. While a call is in progress it cancels the call, so that the server
// and half-written files are left clean; with no call in progress it ends the
// process with exit code 130. Thread-safe. One instance a process.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_INTERRUPT_H_
#define SINKLORA_SERVICES_CLI_INTERRUPT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "common/base/mutex.h"

namespace sinklora::cli {

class Interrupt {
 public:
  // Takes over SIGINT.
  static std::unique_ptr<Interrupt> Install();
  // For tests and programs that handle SIGINT themselves: only Trigger()
  // interrupts.
  Interrupt() = default;
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool interrupted() const;
  // What a SIGINT does.
  void Trigger();
  // Forgets an interrupt that was dealt with (a chat goes on after an answer
  // was cut off).
  void Clear();

  // Runs `cancel` on an interrupt until Remove. Runs it at once when
  // interrupted already.
  int64_t Add(std::function<void()> cancel);
  void Remove(int64_t id);
  // Waits; true when an interrupt came first.
  bool WaitFor(std::chrono::milliseconds time);

 private:
  void Listen();

  mutable Mutex mutex_;
  CondVar changed_;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int64_t, std::function<void()>> cancels_ ABSL_GUARDED_BY(mutex_);
  int read_fd_ = -1;
  std::thread listener_;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_INTERRUPT_H_
