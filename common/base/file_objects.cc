// The classes of files.h that own a system resource.
//
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "common/base/files.h"
#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/posix.h"
#include "common/base/status.h"

namespace sinklora {

using posix::ErrnoError;

namespace {

absl::Status WriteAll(int fd, std::string_view data, const std::string& path) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError(errno, "write", path);
    data.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

FileWriter::FileWriter(std::string path, std::string temp_path, int fd)
    : path_(std::move(path)), temp_path_(std::move(temp_path)), fd_(fd) {}

absl::StatusOr<std::unique_ptr<FileWriter>> FileWriter::Create(
    const std::string& path) {
  const std::string temp_path = fmt::format("{}.{}", path, NewId("tmp"));
  const int fd =
      open(temp_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoError(errno, "create", path);
  return std::unique_ptr<FileWriter>(new FileWriter(path, temp_path, fd));
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temp_path_.c_str());
}

absl::Status FileWriter::Append(std::string_view data) {
  if (fd_ < 0) {
    return absl::FailedPreconditionError(
        fmt::format("append to {} after it was finished", path_));
  }
  SL_RETURN_IF_ERROR(WriteAll(fd_, data, path_));
  size_bytes_ += static_cast<int64_t>(data.size());
  return absl::OkStatus();
}

absl::Status FileWriter::Finish() {
  if (fd_ < 0) {
    return absl::FailedPreconditionError(
        fmt::format("{} is finished already", path_));
  }
  // After a failed sync the kernel may have dropped the data, so the file is
  // never retried: the destructor removes it.
  if (fsync(fd_) != 0) return ErrnoError(errno, "sync", path_);
  if (rename(temp_path_.c_str(), path_.c_str()) != 0) {
    return ErrnoError(errno, "rename to", path_);
  }
  close(fd_);
  fd_ = -1;
  return posix::SyncParent(path_);
}

absl::StatusOr<std::unique_ptr<AppendWriter>> AppendWriter::Open(
    const std::string& path) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoError(errno, "open", path);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    const int error = errno;
    close(fd);
    return ErrnoError(error, "stat", path);
  }
  return std::unique_ptr<AppendWriter>(
      new AppendWriter(path, fd, static_cast<int64_t>(info.st_size)));
}

AppendWriter::~AppendWriter() { close(fd_); }

absl::Status AppendWriter::Append(std::string_view data) {
  SL_RETURN_IF_ERROR(WriteAll(fd_, data, path_));
  size_bytes_ += static_cast<int64_t>(data.size());
  return absl::OkStatus();
}

absl::Status AppendWriter::FinishAs(const std::string& final_path) {
  if (fsync(fd_) != 0) return ErrnoError(errno, "sync", path_);
  if (rename(path_.c_str(), final_path.c_str()) != 0) {
    return ErrnoError(errno, "rename to", final_path);
  }
  return posix::SyncParent(final_path);
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(
    const std::string& path) {
  SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(path));
  posix::ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoError(errno, "open", path);
  // mmap refuses a length of zero.
  if (size_bytes == 0) {
    return std::unique_ptr<MappedFile>(new MappedFile(nullptr, 0));
  }
  const size_t size = static_cast<size_t>(size_bytes);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoError(errno, "map", path);
  return std::unique_ptr<MappedFile>(
      new MappedFile(static_cast<const char*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

absl::StatusOr<std::unique_ptr<TempDir>> TempDir::Create(
    const std::string& parent) {
  const char* environment = std::getenv("TMPDIR");
  std::string base = parent;
  if (base.empty() && environment != nullptr) base = environment;
  if (base.empty()) base = "/tmp";
  std::string path = JoinPath(base, "sinklora-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return ErrnoError(errno, "create a temporary directory in", base);
  }
  return std::unique_ptr<TempDir>(new TempDir(path));
}

TempDir::~TempDir() {
  const absl::Status removed = RemoveAll(path_);
  if (!removed.ok()) LogWarning("{}", std::string(removed.message()));
}

}  // namespace sinklora
