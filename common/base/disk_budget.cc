// SPDX-License-Identifier: Apache-2.0
#include "common/base/disk_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace sinklora {

absl::StatusOr<std::unique_ptr<DiskBudget>> DiskBudget::Create(
    const std::string& directory, int64_t reserve_bytes, FreeBytes free_bytes) {
  if (reserve_bytes < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "disk_reserve_bytes is {}, must be at least 0", reserve_bytes));
  }
  return std::unique_ptr<DiskBudget>(
      new DiskBudget(directory, reserve_bytes, std::move(free_bytes)));
}

absl::Status DiskBudget::Check(int64_t bytes) {
  SL_ASSIGN_OR_RETURN(const int64_t free_bytes, free_bytes_(directory_));
  const int64_t room_bytes = free_bytes - set_aside_bytes_ - reserve_bytes_;
  if (room_bytes >= bytes) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      fmt::format("the disk of {} has {} bytes free, of which {} are set aside "
                  "for writes in progress and {} are kept in reserve: {} bytes "
                  "do not fit",
                  directory_, free_bytes, set_aside_bytes_, reserve_bytes_,
                  bytes),
      {"STORAGE_LOW",
       {{"directory", directory_},
        {"free_bytes", std::to_string(free_bytes)},
        {"set_aside_bytes", std::to_string(set_aside_bytes_)},
        {"reserve_bytes", std::to_string(reserve_bytes_)},
        {"wanted_bytes", std::to_string(bytes)}}});
}

absl::StatusOr<std::unique_ptr<DiskBudget::Reservation>> DiskBudget::Reserve(
    int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes cannot be set aside", bytes));
  }
  MutexLock lock(&mutex_);
  SL_RETURN_IF_ERROR(Check(bytes));
  set_aside_bytes_ += bytes;
  return std::unique_ptr<Reservation>(new Reservation(this, bytes));
}

absl::Status DiskBudget::CheckRoom() {
  MutexLock lock(&mutex_);
  return Check(1);
}

void DiskBudget::Reservation::Written(int64_t bytes) {
  MutexLock lock(&budget_->mutex_);
  const int64_t written = std::min(bytes, bytes_);
  bytes_ -= written;
  budget_->set_aside_bytes_ -= written;
}

DiskBudget::Reservation::~Reservation() { Written(bytes_); }

}  // namespace sinklora
