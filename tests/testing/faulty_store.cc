// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/faulty_store.h"

namespace sinklora::testing {

void FaultyStore::FailWrite(int64_t n, absl::Status status, bool sticky) {
  MutexLock lock(&mutex_);
  failing_write_ = writes_ + n;
  failure_ = std::move(status);
  sticky_ = sticky;
}

void FaultyStore::Heal() {
  MutexLock lock(&mutex_);
  failing_write_ = 0;
}

void FaultyStore::HoldWrite() {
  MutexLock lock(&mutex_);
  hold_ = Hold::kNext;
}

void FaultyStore::WaitUntilHeld() {
  MutexLock lock(&mutex_);
  while (hold_ != Hold::kNow) changed_.Wait(&mutex_);
}

void FaultyStore::ReleaseWrite() {
  MutexLock lock(&mutex_);
  hold_ = Hold::kNo;
  changed_.NotifyAll();
}

int64_t FaultyStore::writes() const {
  MutexLock lock(&mutex_);
  return writes_;
}

absl::StatusOr<std::string> FaultyStore::Get(const std::string& key) {
  return store_->Get(key);
}

absl::Status FaultyStore::Write(const WriteBatch& batch) {
  {
    MutexLock lock(&mutex_);
    ++writes_;
    if (hold_ == Hold::kNext) {
      hold_ = Hold::kNow;
      changed_.NotifyAll();
      while (hold_ == Hold::kNow) changed_.Wait(&mutex_);
    }
    const bool armed = failing_write_ > 0;
    if (armed &&
        (writes_ == failing_write_ || (sticky_ && writes_ > failing_write_))) {
      return failure_;
    }
  }
  return store_->Write(batch);
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>>
FaultyStore::Scan(const std::string& prefix, const std::string& after,
                  int limit) {
  return store_->Scan(prefix, after, limit);
}

}  // namespace sinklora::testing
