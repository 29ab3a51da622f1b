// Exclusive use of a data directory by one process. The lock goes with the
// process, however it ends.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_STANDALONE_DATA_DIR_LOCK_H_
#define SINKLORA_SERVICES_STANDALONE_DATA_DIR_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace sinklora::standalone {

class DataDirLock {
 public:
  // Makes the directory when absent and locks DIR/lock. kFailedPrecondition,
  // with the process id of the holder, when another process, or another object
  // of this one, holds it.
  static absl::StatusOr<std::unique_ptr<DataDirLock>> Acquire(
      const std::string& data_dir);
  ~DataDirLock();
  DataDirLock(const DataDirLock&) = delete;
  DataDirLock& operator=(const DataDirLock&) = delete;

 private:
  explicit DataDirLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace sinklora::standalone

#endif  // SINKLORA_SERVICES_STANDALONE_DATA_DIR_LOCK_H_
