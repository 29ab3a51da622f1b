// Files: whole-file reads, atomic durable writes, directory commits, temporary
// directories. All functions are thread-safe and name the path and the system's
// reason in their errors (kNotFound for a missing file, kResourceExhausted for
// a full disk).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_FILES_H_
#define SINKLORA_COMMON_BASE_FILES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

std::string JoinPath(std::string_view a, std::string_view b);

absl::StatusOr<std::string> ReadFile(const std::string& path);
// Temp file + fsync + rename + fsync of the directory: readers see the old or
// the new content, never a part.
absl::Status WriteFileAtomic(const std::string& path, std::string_view content);
absl::StatusOr<int64_t> FileSize(const std::string& path);
bool FileExists(const std::string& path);
absl::Status MakeDirs(const std::string& path);  // like mkdir -p
absl::Status RemoveAll(
    const std::string& path);  // like rm -rf; a missing path is OK
// Makes directory `parent`/`name`, removes everything else in `parent`, and
// returns its path. For work that one caller does at a time and may go on with.
absl::StatusOr<std::string> MakeOnlyDir(const std::string& parent,
                                        const std::string& name);
// Paths of regular files below `dir`, relative to it, sorted bytewise. Symbolic
// links are not followed.
absl::StatusOr<std::vector<std::string>> ListFilesRecursive(
    const std::string& dir);
// Makes `staged_dir` visible as `final_dir`: fsync of every file and directory
// in it, rename, fsync of the parent. kAlreadyExists when final_dir exists.
absl::Status CommitDirectory(const std::string& staged_dir,
                             const std::string& final_dir);
// Free bytes of the file system that holds `path`.
absl::StatusOr<int64_t> FreeDiskBytes(const std::string& path);
// True for a relative path that stays below its root: no "..", no empty or "."
// part, no leading '/', no NUL, at most 512 bytes. Every path that comes over
// the wire is checked with it.
bool IsSafeRelativePath(std::string_view path);

// Sequential writer of one file; not visible under its name before Finish().
// Not thread-safe.
class FileWriter {
 public:
  static absl::StatusOr<std::unique_ptr<FileWriter>> Create(
      const std::string& path);
  ~FileWriter();  // without Finish(): removes what was written
  absl::Status Append(std::string_view data);
  absl::Status Finish();  // fsync + rename to `path`
  int64_t size_bytes() const { return size_bytes_; }

 private:
  FileWriter(std::string path, std::string temp_path, int fd);
  const std::string path_;
  const std::string temp_path_;
  int fd_;
  int64_t size_bytes_ = 0;
};

// Appends to a file that may hold bytes from an earlier writer; what was
// appended stays when the writer goes away. One writer at a time. Not
// thread-safe.
class AppendWriter {
 public:
  static absl::StatusOr<std::unique_ptr<AppendWriter>> Open(
      const std::string& path);
  ~AppendWriter();
  absl::Status Append(std::string_view data);
  // fsync, rename to `final_path`, fsync of its parent.
  absl::Status FinishAs(const std::string& final_path);
  int64_t size_bytes() const { return size_bytes_; }  // with what was there

 private:
  AppendWriter(std::string path, int fd, int64_t size_bytes)
      : path_(std::move(path)), fd_(fd), size_bytes_(size_bytes) {}
  const std::string path_;
  const int fd_;
  int64_t size_bytes_;
};

// Read-only memory map of a whole file. The mapping lives as long as the
// object.
class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(
      const std::string& path);
  ~MappedFile();
  std::string_view data() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}
  const char* data_;
  size_t size_;
};

// A fresh directory below $TMPDIR or /tmp (or below `parent`), removed with
// everything in it on destruction.
class TempDir {
 public:
  static absl::StatusOr<std::unique_ptr<TempDir>> Create(
      const std::string& parent = "");
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_FILES_H_
