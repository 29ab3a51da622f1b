// SPDX-License-Identifier: Apache-2.0
#include "common/base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "common/base/posix.h"
#include "common/base/status.h"

namespace sinklora {
namespace {

namespace fs = std::filesystem;
using posix::ErrnoError;

constexpr size_t kMaxRelativePathBytes = 512;

// Lists files and directories below `dir`, relative to it, sorted.
struct Tree {
  std::vector<std::string> files;
  std::vector<std::string> directories;
};

absl::StatusOr<Tree> ListTree(const std::string& dir) {
  std::error_code error;
  fs::recursive_directory_iterator it(dir, error);
  Tree tree;
  for (; !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    const fs::file_status status = it->symlink_status(error);
    if (error) break;
    const std::string relative = it->path().lexically_relative(dir).string();
    if (fs::is_regular_file(status)) tree.files.push_back(relative);
    if (fs::is_directory(status)) tree.directories.push_back(relative);
  }
  if (error) return ErrnoError(error.value(), "list", dir);
  std::sort(tree.files.begin(), tree.files.end());
  std::sort(tree.directories.begin(), tree.directories.end());
  return tree;
}

absl::Status RenameToNew(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                RENAME_NOREPLACE) == 0) {
    return absl::OkStatus();
  }
  // Network file systems lack the flag. Plain rename then differs only if
  // another process creates `to` in between, and the data directory has one
  // owner.
  if (errno == EINVAL && !FileExists(to) &&
      rename(from.c_str(), to.c_str()) == 0) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, "rename", fmt::format("{} to {}", from, to));
}

}  // namespace

std::string JoinPath(std::string_view a, std::string_view b) {
  if (a.empty()) return std::string(b);
  if (b.empty()) return std::string(a);
  const bool has_slash = a.back() == '/';
  return fmt::format("{}{}{}", a, has_slash ? "" : "/", b);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  posix::ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoError(errno, "open", path);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoError(errno, "stat", path);
  // The size is a hint only: files of /proc say 0.
  constexpr size_t kMinReadBytes = 64 << 10;
  std::string content;
  size_t used = 0;
  while (true) {
    const size_t hint = static_cast<size_t>(info.st_size) + 1;
    if (used == content.size()) {
      content.resize(std::max({hint, 2 * used, used + kMinReadBytes}));
    }
    const ssize_t got =
        read(fd.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, "read", path);
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  content.resize(used);
  return content;
}

absl::Status WriteFileAtomic(const std::string& path,
                             std::string_view content) {
  SL_ASSIGN_OR_RETURN(auto writer, FileWriter::Create(path));
  SL_RETURN_IF_ERROR(writer->Append(content));
  return writer->Finish();
}

absl::StatusOr<int64_t> FileSize(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoError(errno, "stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        fmt::format("{} is not a regular file", path));
  }
  return static_cast<int64_t>(info.st_size);
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::Status MakeDirs(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return ErrnoError(error.value(), "create directory", path);
  return absl::OkStatus();
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return ErrnoError(error.value(), "remove", path);
  return absl::OkStatus();
}

absl::StatusOr<std::string> MakeOnlyDir(const std::string& parent,
                                        const std::string& name) {
  const std::string dir = JoinPath(parent, name);
  SL_RETURN_IF_ERROR(MakeDirs(dir));
  std::error_code error;
  for (fs::directory_iterator it(parent, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename() == name) continue;
    SL_RETURN_IF_ERROR(RemoveAll(it->path().string()));
  }
  if (error) return ErrnoError(error.value(), "list", parent);
  return dir;
}

absl::StatusOr<std::vector<std::string>> ListFilesRecursive(
    const std::string& dir) {
  SL_ASSIGN_OR_RETURN(Tree tree, ListTree(dir));
  return std::move(tree.files);
}

absl::Status CommitDirectory(const std::string& staged_dir,
                             const std::string& final_dir) {
  SL_ASSIGN_OR_RETURN(const Tree tree, ListTree(staged_dir));
  for (const std::string& file : tree.files) {
    SL_RETURN_IF_ERROR(posix::SyncPath(JoinPath(staged_dir, file)));
  }
  for (const std::string& directory : tree.directories) {
    SL_RETURN_IF_ERROR(posix::SyncPath(JoinPath(staged_dir, directory)));
  }
  SL_RETURN_IF_ERROR(posix::SyncPath(staged_dir));
  SL_RETURN_IF_ERROR(RenameToNew(staged_dir, final_dir));
  return posix::SyncParent(final_dir);
}

absl::StatusOr<int64_t> FreeDiskBytes(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) {
    return ErrnoError(errno, "query free space of", path);
  }
  return static_cast<int64_t>(info.f_bavail) *
         static_cast<int64_t>(info.f_frsize);
}

bool IsSafeRelativePath(std::string_view path) {
  if (path.empty() || path.size() > kMaxRelativePathBytes) return false;
  if (path.find('\0') != std::string_view::npos) return false;
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace sinklora
