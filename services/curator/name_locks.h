// Locks by name: work on one name at a time, on different names at once. So a
// client's retry waits for its first attempt instead of doing the work twice.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_NAME_LOCKS_H_
#define SINKLORA_SERVICES_CURATOR_NAME_LOCKS_H_

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "services/curator/types.h"

namespace sinklora::curator {

class NameLocks {
 public:
  // Holds the lock until destroyed. Must not outlive the NameLocks.
  class Guard {
   public:
    Guard(NameLocks* locks, std::string name)
        : locks_(locks), name_(std::move(name)) {}
    ~Guard() { locks_->Release(name_); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    NameLocks* const locks_;
    const std::string name_;
  };

  // Waits until nobody holds `name`. kCancelled when `cancelled` says so first.
  absl::StatusOr<std::unique_ptr<Guard>> Acquire(const std::string& name,
                                                 const CancelledFn& cancelled);

 private:
  void Release(const std::string& name);

  Mutex mutex_;
  CondVar released_;
  std::set<std::string> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_NAME_LOCKS_H_
