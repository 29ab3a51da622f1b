// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/import_root.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "common/base/hash.h"
#include "common/base/status.h"

namespace sinklora::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kCopyBytes = size_t{1} << 20;
constexpr size_t kMaxFiles = 10'000;

absl::Status SystemError(int number, const std::string& path) {
  return absl::Status(
      absl::ErrnoToStatusCode(number),
      fmt::format("{}: {}", path, std::generic_category().message(number)));
}

absl::Status Outside(const std::string& path, const std::string& leads_to,
                     const std::string& root) {
  return MakeError(
      absl::StatusCode::kPermissionDenied,
      fmt::format("{} leads to {}, which is not below the server's "
                  "--import-root {}",
                  path, leads_to, root),
      {"OUTSIDE_IMPORT_ROOT", {{"path", path}, {"root", root}}});
}

bool IsBelow(const std::string& path, const std::string& root) {
  return path == root || path.starts_with(root == "/" ? root : root + "/");
}

// A regular file below the root, open for reading.
class SourceFile {
 public:
  static absl::StatusOr<SourceFile> Open(const std::string& path,
                                         const std::string& root) {
    // Not to wait for the writer of a pipe that lies there.
    SourceFile file(path,
                    open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.fd_ < 0) return SystemError(errno, path);
    struct stat info;
    if (fstat(file.fd_, &info) != 0) return SystemError(errno, path);
    // Asked of the open file, not of its path: no link can change that.
    std::error_code error;
    const fs::path real =
        fs::read_symlink(fmt::format("/proc/self/fd/{}", file.fd_), error);
    if (error) return SystemError(error.value(), path);
    if (!IsBelow(real.string(), root)) {
      return Outside(path, real.string(), root);
    }
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: not a regular file", path));
    }
    return file;
  }
  SourceFile(SourceFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  SourceFile& operator=(SourceFile&&) = delete;
  ~SourceFile() {
    if (fd_ >= 0) close(fd_);
  }

  // Fills `buffer` as far as there are bytes.
  absl::StatusOr<size_t> Read(std::string* buffer) {
    while (true) {
      const ssize_t got = read(fd_, buffer->data(), buffer->size());
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return SystemError(errno, path_);
    }
  }

 private:
  SourceFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

// Copies to one staging directory.
class Copier {
 public:
  Copier(const std::string& root, const std::string& staged_dir,
         DiskBudget* disk, const Cancellation& cancellation)
      : root_(root),
        staged_dir_(staged_dir),
        disk_(disk),
        cancellation_(cancellation) {}

  absl::StatusOr<common::v1::FileInfo> CopyFile(const std::string& from,
                                                const std::string& to) {
    SL_ASSIGN_OR_RETURN(SourceFile source, SourceFile::Open(from, root_));
    const std::string target = JoinPath(staged_dir_, to);
    SL_RETURN_IF_ERROR(MakeDirs(fs::path(target).parent_path().string()));
    SL_ASSIGN_OR_RETURN(const auto writer, FileWriter::Create(target));
    Sha256 hash;
    std::string buffer(kCopyBytes, '\0');
    while (true) {
      if (cancellation_.cancelled()) {
        return absl::CancelledError("the import was cancelled");
      }
      SL_ASSIGN_OR_RETURN(const size_t got, source.Read(&buffer));
      if (got == 0) break;
      SL_ASSIGN_OR_RETURN(const auto room,
                          disk_->Reserve(static_cast<int64_t>(got)));
      const std::string_view data(buffer.data(), got);
      SL_RETURN_IF_ERROR(writer->Append(data));
      hash.Update(data);
    }
    SL_RETURN_IF_ERROR(writer->Finish());
    common::v1::FileInfo info;
    info.set_path(to);
    info.set_size_bytes(writer->size_bytes());
    info.set_sha256(hash.FinishHex());
    return info;
  }

 private:
  const std::string& root_;
  const std::string& staged_dir_;
  DiskBudget* const disk_;
  const Cancellation& cancellation_;
};

// Paths of what is to be copied below `dir`, relative to it, sorted.
absl::StatusOr<std::vector<std::string>> ListSources(const fs::path& dir) {
  std::vector<std::string> paths;
  std::error_code error;
  fs::recursive_directory_iterator it(dir, error);
  for (; !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    if (it->path().filename().string().starts_with('.')) {
      it.disable_recursion_pending();
      continue;
    }
    // A link that leads nowhere is listed: opening it will say so.
    const bool is_directory = it->is_directory(error) && !error;
    error.clear();
    const std::string path =
        it->path().lexically_relative(dir).generic_string();
    if (is_directory && it->is_symlink(error)) {
      return MakeError(absl::StatusCode::kPermissionDenied,
                       fmt::format("{} is a link to a directory; such links "
                                   "are not followed",
                                   path),
                       {"LINK_TO_DIRECTORY", {{"path", path}}});
    }
    if (is_directory) continue;
    paths.push_back(path);
    if (paths.size() > kMaxFiles) {
      return absl::ResourceExhaustedError(
          fmt::format("{}: more than {} files", dir.string(), kMaxFiles));
    }
  }
  if (error) return SystemError(error.value(), dir.string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImportRoot>> ImportRoot::Create(
    const std::string& directory) {
  if (directory.empty()) {
    return std::unique_ptr<ImportRoot>(new ImportRoot(""));
  }
  std::error_code error;
  const fs::path root = fs::canonical(directory, error);
  if (!error && !fs::is_directory(root, error) && !error) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  if (error) {
    return Annotate(SystemError(error.value(), directory), "--import-root");
  }
  return std::unique_ptr<ImportRoot>(new ImportRoot(root.string()));
}

absl::StatusOr<FileInfos> ImportRoot::Copy(
    const std::string& path, const std::string& staged_dir, DiskBudget* disk,
    const Cancellation& cancellation) const {
  if (root_.empty()) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        "this server does not import by path; start it with --import-root=DIR, "
        "or upload the files",
        {"IMPORT_BY_PATH_DISABLED", {}});
  }
  if (path.empty() || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        fmt::format("path is '{}', it must name a directory or a file", path));
  }
  const fs::path given = (fs::path(root_) / path).lexically_normal();
  // Before the disk is asked: what exists out there is nobody's business.
  if (!IsBelow(given.string(), root_)) {
    return Outside(path, given.string(), root_);
  }
  std::error_code error;
  const fs::path real = fs::canonical(given, error);
  if (error) return SystemError(error.value(), path);
  if (!IsBelow(real.string(), root_)) {
    return Outside(path, real.string(), root_);
  }
  Copier copier(root_, staged_dir, disk, cancellation);
  FileInfos files;
  if (!fs::is_directory(real, error)) {
    // Under the name as given: a link "model.gguf" keeps its extension.
    SL_ASSIGN_OR_RETURN(
        auto file, copier.CopyFile(given.string(), given.filename().string()));
    files.push_back(std::move(file));
    return files;
  }
  SL_ASSIGN_OR_RETURN(const auto paths, ListSources(real));
  for (const std::string& file : paths) {
    SL_ASSIGN_OR_RETURN(auto copied,
                        copier.CopyFile((real / file).string(), file));
    files.push_back(std::move(copied));
  }
  if (files.empty()) {
    return absl::InvalidArgumentError(fmt::format("{}: no files in it", path));
  }
  return files;
}

}  // namespace sinklora::trainer
