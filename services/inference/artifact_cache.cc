// SPDX-License-Identifier: Apache-2.0
#include "services/inference/artifact_cache.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora::inference {
namespace {

constexpr size_t kDigestCharacters = 64;

// The digest becomes a directory name, so its form matters.
absl::Status CheckDigest(const Artifact& artifact) {
  const std::string& digest = artifact.digest;
  const bool is_hex = std::ranges::all_of(digest, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (digest.size() == kDigestCharacters && is_hex) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "registry artifact {}: digest is '{}', must be {} lower-case hexadecimal "
      "digits",
      artifact.name, digest, kDigestCharacters));
}

// OK when `directory` holds exactly the artifact's files.
absl::Status Verify(const Artifact& artifact, const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::vector<std::string> found,
                      ListFilesRecursive(directory));
  if (found.size() != artifact.files.size()) {
    return absl::DataLossError(
        fmt::format("{}: {} files, the registry lists {}", directory,
                    found.size(), artifact.files.size()));
  }
  for (const ArtifactFile& file : artifact.files) {
    if (!IsSafeRelativePath(file.path)) {
      return absl::InvalidArgumentError(
          fmt::format("registry artifact {}: unsafe file path '{}'",
                      artifact.name, file.path));
    }
    const std::string path = JoinPath(directory, file.path);
    SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(path));
    if (size_bytes != file.size_bytes) {
      return absl::DataLossError(
          fmt::format("{}: {} bytes, the registry lists {}", path, size_bytes,
                      file.size_bytes));
    }
    SL_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(path));
    if (sha256 != file.sha256) {
      return absl::DataLossError(
          fmt::format("{}: SHA-256 is {}, the registry lists {}", path, sha256,
                      file.sha256));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArtifactCache>> ArtifactCache::Create(
    const std::string& directory) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  return std::unique_ptr<ArtifactCache>(new ArtifactCache(directory));
}

absl::StatusOr<std::string> ArtifactCache::Fetch(const std::string& kind,
                                                 const Artifact& artifact,
                                                 const Download& download) {
  SL_RETURN_IF_ERROR(CheckDigest(artifact));
  const std::string parent = JoinPath(directory_, kind);
  const std::string directory = JoinPath(parent, artifact.digest);
  if (FileExists(directory)) {
    const absl::Status status = Verify(artifact, directory);
    if (status.ok()) return directory;
    LogWarning("cached copy of {} is damaged, fetching it again: {}",
               artifact.name, std::string(status.message()));
    SL_RETURN_IF_ERROR(RemoveAll(directory));
  }
  // One download at a time: what others left, nobody waits for.
  SL_ASSIGN_OR_RETURN(
      const std::string staged,
      MakeOnlyDir(JoinPath(directory_, "incoming"), artifact.digest));
  absl::Status status = download(staged);
  // What has arrived is worth keeping only when the rest may follow.
  if (MayResume(status)) return status;
  if (status.ok()) status = Verify(artifact, staged);
  if (status.ok()) status = MakeDirs(parent);
  if (status.ok()) status = CommitDirectory(staged, directory);
  if (!status.ok()) {
    const absl::Status removed = RemoveAll(staged);
    if (!removed.ok()) {
      LogWarning("{}: {}", staged, std::string(removed.message()));
    }
    return status;
  }
  return directory;
}

}  // namespace sinklora::inference
