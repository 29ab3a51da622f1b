// A Store that passes everything on to another one and fails chosen writes, to
// test what survives a disk fault. Thread-safe as the wrapped store. Borrows
// it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_FAULTY_STORE_H_
#define SINKLORA_TESTS_TESTING_FAULTY_STORE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/store/store.h"

namespace sinklora::testing {

class FaultyStore final : public Store {
 public:
  explicit FaultyStore(Store* store) : store_(store) {}

  // The n-th Write() from now (1: the next) and, when `sticky`, all later ones
  // fail with `status` and write nothing.
  void FailWrite(
      int64_t n,
      absl::Status status = absl::ResourceExhaustedError("injected: disk full"),
      bool sticky = false);
  // Writes work again.
  void Heal();
  // The next Write() waits until ReleaseWrite().
  void HoldWrite();
  void WaitUntilHeld();
  void ReleaseWrite();
  // Write() calls so far, the failed ones included.
  int64_t writes() const;

  absl::StatusOr<std::string> Get(const std::string& key) override;
  absl::Status Write(const WriteBatch& batch) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Scan(
      const std::string& prefix, const std::string& after, int limit) override;

 private:
  Store* const store_;
  mutable Mutex mutex_;
  int64_t writes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failing_write_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none
  bool sticky_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  enum class Hold { kNo, kNext, kNow };
  Hold hold_ ABSL_GUARDED_BY(mutex_) = Hold::kNo;
  CondVar changed_;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_FAULTY_STORE_H_
