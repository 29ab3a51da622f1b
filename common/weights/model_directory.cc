// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_directory.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "common/base/files.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

namespace fs = std::filesystem;

bool IsBelow(const fs::path& path, const fs::path& root) {
  const auto [rest, _] =
      std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return rest == root.end();
}

// Where the blobs of a snapshot of Hugging Face's cache lie; empty for any
// other directory.
fs::path CacheBlobs(const fs::path& root) {
  const fs::path snapshots = root.parent_path();
  const fs::path model = snapshots.parent_path();
  const bool is_cache = snapshots.filename() == "snapshots" &&
                        model.filename().string().starts_with("models--");
  return is_cache ? model / "blobs" : fs::path();
}

}  // namespace

absl::StatusOr<std::string> ResolveModelFile(const std::string& directory,
                                             const std::string& name) {
  if (!IsSafeRelativePath(name)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: '{}' is not the path of a file below it", directory, name));
  }
  const std::string path = JoinPath(directory, name);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return absl::NotFoundError(fmt::format("{} does not exist", path));
  }
  const fs::path root = fs::canonical(directory, error);
  const fs::path target = error ? fs::path() : fs::canonical(path, error);
  if (error && fs::is_symlink(status)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is a link to {}: {}", path,
                    fs::read_symlink(path, error).string(), error.message()));
  }
  if (error) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", path, error.message()));
  }
  const fs::path blobs = CacheBlobs(root);
  if (!IsBelow(target, root) && (blobs.empty() || !IsBelow(target, blobs))) {
    return absl::InvalidArgumentError(
        fmt::format("{} is a link to {}, which is outside of its directory; "
                    "copy the directory with the files in place of the links "
                    "(cp -rL)",
                    path, target.string()));
  }
  if (!fs::is_regular_file(target, error)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not a regular file", path));
  }
  return path;
}

absl::StatusOr<std::string> ReadModelFile(const std::string& directory,
                                          const std::string& name) {
  constexpr int64_t kMaxBytes = int64_t{256} << 20;
  SL_ASSIGN_OR_RETURN(const std::string path,
                      ResolveModelFile(directory, name));
  SL_ASSIGN_OR_RETURN(const int64_t bytes, FileSize(path));
  if (bytes > kMaxBytes) {
    return absl::InvalidArgumentError(fmt::format(
        "{} has {} bytes, the limit is {}", path, bytes, kMaxBytes));
  }
  return ReadFile(path);
}

}  // namespace sinklora
