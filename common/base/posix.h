// Internal to common/base: errno as a Status, and an owned file descriptor.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_POSIX_H_
#define SINKLORA_COMMON_BASE_POSIX_H_

#include <unistd.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sinklora::posix {

// "cannot ACTION PATH: REASON" with the canonical code of `error_number`. A
// full disk, quota or file size limit is kResourceExhausted, reason DISK_FULL.
absl::Status ErrnoError(int error_number, std::string_view action,
                        std::string_view path);

// Closes on destruction. Not thread-safe.
class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() {
    if (fd_ >= 0) close(fd_);
  }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// Flushes the file or directory at `path` to the disk.
absl::Status SyncPath(const std::string& path);
// Flushes the directory that holds `path`, so that its entry survives a power
// cut.
absl::Status SyncParent(const std::string& path);

}  // namespace sinklora::posix

#endif  // SINKLORA_COMMON_BASE_POSIX_H_
