// SPDX-License-Identifier: Apache-2.0
#include "services/standalone/data_dir_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/base/files.h"
#include "common/base/status.h"

namespace sinklora::standalone {
namespace {

absl::Status SystemError(const std::string& path, const std::string& action) {
  const int number = errno;
  return absl::Status(absl::ErrnoToStatusCode(number),
                      fmt::format("{}: cannot {}: {}", path, action,
                                  std::generic_category().message(number)));
}

// What the holder wrote; empty when it has not come to that yet.
std::string Holder(int fd) {
  char text[32];
  const ssize_t size = pread(fd, text, sizeof(text), 0);
  return size <= 0 ? "" : std::string(text, static_cast<size_t>(size));
}

absl::Status WriteHolder(int fd, const std::string& path) {
  const std::string text = std::to_string(getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text.data(), text.size(), 0) !=
                                   static_cast<ssize_t>(text.size())) {
    return SystemError(path, "write the process id");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataDirLock>> DataDirLock::Acquire(
    const std::string& data_dir) {
  SL_RETURN_IF_ERROR(MakeDirs(data_dir));
  const std::string path = JoinPath(data_dir, "lock");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(path, "open");
  std::unique_ptr<DataDirLock> lock(new DataDirLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError(path, "lock");
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("{}: this data directory is in use by process {}", data_dir,
                    Holder(fd)),
        {"DATA_DIR_IN_USE", {{"data_dir", data_dir}, {"pid", Holder(fd)}}});
  }
  SL_RETURN_IF_ERROR(WriteHolder(fd, path));
  return lock;
}

// Closing releases the lock. The file stays: removing it would let two
// processes lock two files of the same name.
DataDirLock::~DataDirLock() { close(fd_); }

}  // namespace sinklora::standalone
