// SPDX-License-Identifier: Apache-2.0
#include "services/cli/upload_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "common/base/status.h"

namespace sinklora::cli {
namespace {

namespace fs = std::filesystem;

absl::Status Failure(const fs::path& path, const std::error_code& error) {
  const auto message = fmt::format("{}: {}", path.string(), error.message());
  if (error == std::errc::no_such_file_or_directory ||
      error == std::errc::not_a_directory) {
    return absl::NotFoundError(message);
  }
  return absl::InvalidArgumentError(message);
}

bool IsHidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

// Appends the regular files below `directory`, relative to `root`.
absl::Status ListBelow(const fs::path& root, const fs::path& directory,
                       std::vector<std::string>* files) {
  std::error_code error;
  fs::recursive_directory_iterator it(directory, error);
  if (error) return Failure(directory, error);
  const fs::recursive_directory_iterator end;
  while (it != end) {
    const fs::directory_entry entry = *it;
    if (IsHidden(entry.path())) {
      it.disable_recursion_pending();
    } else if (entry.is_regular_file(error)) {
      files->push_back(entry.path().lexically_relative(root).generic_string());
    }
    it.increment(error);
    if (error) return Failure(entry.path(), error);
  }
  return absl::OkStatus();
}

absl::Status AddRoot(const fs::path& root, std::vector<std::string> files,
                     Upload* upload) {
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    std::error_code error;
    const auto size = fs::file_size(root / file, error);
    if (error) return Failure(root / file, error);
    upload->total_bytes += static_cast<int64_t>(size);
    ++upload->file_count;
  }
  upload->roots.push_back({root.string(), std::move(files)});
  return absl::OkStatus();
}

absl::Status AddPath(const std::string& path, Upload* upload) {
  std::error_code error;
  const fs::path full = fs::canonical(path, error);
  if (error) return Failure(path, error);
  // The name as given, not as resolved: a link "book.txt" keeps its extension.
  const fs::path given = fs::absolute(path).lexically_normal();
  std::vector<std::string> files;
  if (!fs::is_directory(full, error)) {
    files.push_back(given.filename().string());
    return AddRoot(given.parent_path(), std::move(files), upload);
  }
  SL_RETURN_IF_ERROR(ListBelow(full.parent_path(), full, &files));
  return AddRoot(full.parent_path(), std::move(files), upload);
}

absl::StatusOr<Upload> Checked(Upload upload, const std::string& what) {
  if (upload.file_count == 0) {
    return absl::InvalidArgumentError(fmt::format("{}: no files in it", what));
  }
  std::set<std::string> seen;
  for (const UploadRoot& root : upload.roots) {
    for (const std::string& file : root.files) {
      if (!seen.insert(file).second) {
        return absl::InvalidArgumentError(fmt::format(
            "{}: named twice, the second time below {}", file, root.directory));
      }
    }
  }
  return upload;
}

}  // namespace

absl::StatusOr<Upload> CollectFiles(const std::vector<std::string>& paths) {
  Upload upload;
  std::string names;
  for (const std::string& path : paths) {
    SL_RETURN_IF_ERROR(AddPath(path, &upload));
    names += (names.empty() ? "" : ", ") + path;
  }
  return Checked(std::move(upload), names);
}

absl::StatusOr<Upload> CollectDirectory(const std::string& directory) {
  std::error_code error;
  const fs::path full = fs::canonical(directory, error);
  if (error) return Failure(directory, error);
  Upload upload;
  std::vector<std::string> files;
  SL_RETURN_IF_ERROR(ListBelow(full, full, &files));
  SL_RETURN_IF_ERROR(AddRoot(full, std::move(files), &upload));
  return Checked(std::move(upload), directory);
}

}  // namespace sinklora::cli
