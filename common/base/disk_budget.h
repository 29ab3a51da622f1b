// Room on one file system, shared by all that is about to be written to it: two
// uploads that both see the same free bytes must not both count on them.
//
// Thread-safe. Outlives its reservations.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_DISK_BUDGET_H_
#define SINKLORA_COMMON_BASE_DISK_BUDGET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/base/mutex.h"

namespace sinklora {

// What is kept free unless a process is told otherwise: the state beside the
// files must still be writable when files have filled the disk.
constexpr int64_t kDefaultDiskReserveBytes = int64_t{64} << 20;

class DiskBudget {
 public:
  using FreeBytes =
      std::function<absl::StatusOr<int64_t>(const std::string& directory)>;
  // Bytes set aside for one writer, until they are written or it is destroyed.
  class Reservation {
   public:
    ~Reservation();
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    // These bytes are on the disk now, where the free bytes count them.
    void Written(int64_t bytes);

   private:
    friend class DiskBudget;
    Reservation(DiskBudget* budget, int64_t bytes)
        : budget_(budget), bytes_(bytes) {}
    DiskBudget* const budget_;
    int64_t bytes_;
  };

  // `directory` must exist when room is asked for. kInvalidArgument for a
  // negative reserve.
  static absl::StatusOr<std::unique_ptr<DiskBudget>> Create(
      const std::string& directory, int64_t reserve_bytes,
      FreeBytes free_bytes = FreeDiskBytes);

  // kResourceExhausted (reason STORAGE_LOW) naming the directory, its free
  // bytes, what others have set aside and the reserve, unless `bytes` fit
  // beside them.
  absl::StatusOr<std::unique_ptr<Reservation>> Reserve(int64_t bytes);
  // OK while anything fits: asked before work whose size nobody knows.
  absl::Status CheckRoom();

 private:
  DiskBudget(std::string directory, int64_t reserve_bytes, FreeBytes free_bytes)
      : directory_(std::move(directory)),
        reserve_bytes_(reserve_bytes),
        free_bytes_(std::move(free_bytes)) {}
  absl::Status Check(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string directory_;
  const int64_t reserve_bytes_;
  const FreeBytes free_bytes_;
  Mutex mutex_;
  int64_t set_aside_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_DISK_BUDGET_H_
