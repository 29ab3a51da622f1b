// An auto-reset event: wakes one sleeper, remembers a call that found nobody
// asleep. Thread-safe; shared by the engine and everything that wakes it, so
// that a late wake-up of an engine that is gone harms nobody.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_WAKE_SIGNAL_H_
#define SINKLORA_SERVICES_INFERENCE_WAKE_SIGNAL_H_

#include <chrono>

#include "common/base/mutex.h"

namespace sinklora::inference {

class WakeSignal {
 public:
  void Notify() {
    MutexLock lock(&mutex_);
    pending_ = true;
    changed_.NotifyOne();
  }

  // Sleeps until Notify, for ever.
  void Wait() {
    MutexLock lock(&mutex_);
    while (!pending_) changed_.Wait(&mutex_);
    pending_ = false;
  }

  // Sleeps until Notify, or about `timeout`.
  void WaitFor(std::chrono::milliseconds timeout) {
    MutexLock lock(&mutex_);
    if (!pending_) changed_.WaitFor(&mutex_, timeout);
    pending_ = false;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool pending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_WAKE_SIGNAL_H_
