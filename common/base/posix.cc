// SPDX-License-Identifier: Apache-2.0
#include "common/base/posix.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "common/base/status.h"

namespace sinklora::posix {

absl::Status ErrnoError(int error_number, std::string_view action,
                        std::string_view path) {
  const std::string message =
      fmt::format("cannot {} {}: {}", action, path,
                  std::generic_category().message(error_number));
  if (error_number == ENOSPC || error_number == EDQUOT ||
      error_number == EFBIG) {
    return MakeError(absl::StatusCode::kResourceExhausted, message,
                     {"DISK_FULL", {{"path", std::string(path)}}});
  }
  return absl::Status(absl::ErrnoToStatusCode(error_number), message);
}

absl::Status SyncPath(const std::string& path) {
  ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoError(errno, "open for sync", path);
  if (fsync(fd.get()) != 0) return ErrnoError(errno, "sync", path);
  return absl::OkStatus();
}

absl::Status SyncParent(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return SyncPath(parent.empty() ? "." : parent);
}

}  // namespace sinklora::posix
