// SPDX-License-Identifier: Apache-2.0
#include "services/inference/generation.h"

#include <utility>

namespace sinklora::inference {

// The lock orders this after the other end's last use: the count of references
// may be let go in code that ThreadSanitizer does not see.
EventChannel::~EventChannel() {
  MutexLock lock(&mutex_);
  deltas_.clear();
  result_.reset();
}

bool EventChannel::Full() const {
  MutexLock lock(&mutex_);
  return deltas_.size() >= capacity_;
}

bool EventChannel::abandoned() const {
  MutexLock lock(&mutex_);
  return abandoned_;
}

void EventChannel::Push(GenerationDelta delta) {
  MutexLock lock(&mutex_);
  if (abandoned_) return;
  deltas_.push_back(std::move(delta));
  changed_.NotifyOne();
}

void EventChannel::Close(absl::StatusOr<GenerationResult> result) {
  MutexLock lock(&mutex_);
  result_ = std::move(result);
  changed_.NotifyOne();
}

bool EventChannel::Pop(GenerationDelta* delta) {
  bool was_full = false;
  {
    MutexLock lock(&mutex_);
    while (deltas_.empty() && !result_.has_value()) changed_.Wait(&mutex_);
    if (deltas_.empty()) return false;
    was_full = deltas_.size() >= capacity_;
    *delta = std::move(deltas_.front());
    deltas_.pop_front();
  }
  if (was_full) engine_->Notify();
  return true;
}

absl::StatusOr<GenerationResult> EventChannel::result() const {
  MutexLock lock(&mutex_);
  return *result_;
}

void EventChannel::Abandon() {
  {
    MutexLock lock(&mutex_);
    if (result_.has_value()) return;
    abandoned_ = true;
    deltas_.clear();
  }
  engine_->Notify();
}

}  // namespace sinklora::inference
