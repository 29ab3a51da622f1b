// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/artifact_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora::trainer {
namespace {

namespace fs = std::filesystem;

// Entries of one directory, as joined paths; none when it is missing.
std::vector<std::string> Entries(const std::string& dir) {
  std::vector<std::string> entries;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    entries.push_back(JoinPath(dir, it->path().filename().string()));
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArtifactStore>> ArtifactStore::Create(
    const Options& options) {
  std::unique_ptr<ArtifactStore> store(new ArtifactStore(options));
  SL_RETURN_IF_ERROR(RemoveAll(store->StagingDir()));
  for (const char* dir : {"staging", "models", "adapters", "jobs"}) {
    SL_RETURN_IF_ERROR(MakeDirs(JoinPath(options.root, dir)));
  }
  return store;
}

std::string ArtifactStore::StagingDir() const {
  return JoinPath(options_.root, "staging");
}

absl::StatusOr<std::unique_ptr<TempDir>> ArtifactStore::NewStaging() const {
  return TempDir::Create(StagingDir());
}

std::string ArtifactStore::ModelDir(const std::string& digest) const {
  return JoinPath(JoinPath(options_.root, "models"), digest);
}

std::string ArtifactStore::AdapterDir(const std::string& digest) const {
  return JoinPath(JoinPath(options_.root, "adapters"), digest);
}

std::string ArtifactStore::JobDir(const std::string& job) const {
  return JoinPath(JoinPath(options_.root, "jobs"), job);
}

std::string ArtifactStore::CheckpointDir(const std::string& job,
                                         int64_t step) const {
  return JoinPath(JobDir(job), fmt::format("step-{}", step));
}

absl::StatusOr<bool> ArtifactStore::CommitContent(
    const std::string& staged_dir, const std::string& final_dir) const {
  const absl::Status status = CommitDirectory(staged_dir, final_dir);
  if (absl::IsAlreadyExists(status)) return false;
  SL_RETURN_IF_ERROR(status);
  return true;
}

absl::Status ArtifactStore::RemoveAllBut(
    const std::set<std::string>& kept) const {
  std::vector<std::string> found;
  for (const char* kind : {"models", "adapters"}) {
    for (std::string& dir : Entries(JoinPath(options_.root, kind))) {
      found.push_back(std::move(dir));
    }
  }
  for (std::string& job : Entries(JoinPath(options_.root, "jobs"))) {
    for (std::string& step : Entries(job)) found.push_back(std::move(step));
    // A job's own directory goes only when no checkpoint in it stays.
    found.push_back(std::move(job));
  }
  for (const std::string& dir : found) {
    const auto next = kept.lower_bound(dir);
    const bool needed =
        next != kept.end() && (*next == dir || next->starts_with(dir + "/"));
    if (needed) continue;
    LogInfo("removing {}: nothing refers to it", dir);
    SL_RETURN_IF_ERROR(RemoveAll(dir));
  }
  return absl::OkStatus();
}

void Trash::Take(const std::string& dir) {
  if (!FileExists(dir)) return;
  if (dir_ == nullptr) {
    auto made = artifacts_->NewStaging();
    if (made.ok()) dir_ = *std::move(made);
  }
  std::error_code error = std::make_error_code(std::errc::no_space_on_device);
  if (dir_ != nullptr) {
    fs::rename(dir, JoinPath(dir_->path(), std::to_string(taken_++)), error);
  }
  if (!error) return;
  const absl::Status removed = RemoveAll(dir);
  if (!removed.ok()) {
    LogWarning("cannot remove {}: {}", dir, std::string(removed.message()));
  }
}

std::string ContentDigest(FileInfos files) {
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path() < b.path(); });
  Sha256 hash;
  for (const auto& file : files) {
    // NUL cannot be part of a path, so no two lists read the same.
    hash.Update(file.path());
    hash.Update(std::string_view("\0", 1));
    hash.Update(file.sha256());
    hash.Update("\n");
  }
  return hash.FinishHex();
}

absl::StatusOr<FileInfos> DescribeFiles(const std::string& dir) {
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(dir));
  FileInfos files;
  for (const std::string& path : paths) {
    const std::string full_path = JoinPath(dir, path);
    common::v1::FileInfo file;
    file.set_path(path);
    SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(full_path));
    file.set_size_bytes(size_bytes);
    SL_ASSIGN_OR_RETURN(*file.mutable_sha256(), Sha256OfFile(full_path));
    files.push_back(std::move(file));
  }
  return files;
}

absl::Status VerifyFiles(const std::string& dir, const FileInfos& files) {
  for (const auto& file : files) {
    const auto sha256 = Sha256OfFile(JoinPath(dir, file.path()));
    if (sha256.ok() && *sha256 == file.sha256()) continue;
    const std::string found = sha256.ok()
                                  ? "has SHA-256 " + *sha256
                                  : std::string(sha256.status().message());
    return MakeError(absl::StatusCode::kDataLoss,
                     fmt::format("stored file {} {}, expected SHA-256 {}",
                                 file.path(), found, file.sha256()),
                     {"STORED_FILE_CORRUPT", {{"path", file.path()}}});
  }
  return absl::OkStatus();
}

absl::Status LinkDirectory(const std::string& from, const std::string& to) {
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(from));
  for (const std::string& path : paths) {
    const std::string target = JoinPath(to, path);
    SL_RETURN_IF_ERROR(MakeDirs(fs::path(target).parent_path().string()));
    std::error_code error;
    fs::create_hard_link(JoinPath(from, path), target, error);
    if (error) fs::copy_file(JoinPath(from, path), target, error);
    if (error) {
      return absl::InternalError(
          fmt::format("{}: cannot copy: {}", target, error.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace sinklora::trainer
