// SPDX-License-Identifier: Apache-2.0
#include "tests/services/inference/directory_source.h"

#include <fmt/format.h>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"

namespace sinklora::inference {
namespace {

absl::StatusOr<Artifact> ReadArtifact(const std::string& name,
                                      const std::string& directory) {
  Artifact artifact;
  artifact.name = name;
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(directory));
  Sha256 digest;
  for (const std::string& path : paths) {
    const std::string full_path = JoinPath(directory, path);
    ArtifactFile file;
    file.path = path;
    SL_ASSIGN_OR_RETURN(file.size_bytes, FileSize(full_path));
    SL_ASSIGN_OR_RETURN(file.sha256, Sha256OfFile(full_path));
    digest.Update(file.path + " " + file.sha256 + "\n");
    artifact.files.push_back(file);
  }
  artifact.digest = digest.FinishHex();
  return artifact;
}

}  // namespace

absl::Status DirectorySource::AddModel(const std::string& name,
                                       const std::string& directory) {
  SL_ASSIGN_OR_RETURN(Artifact artifact, ReadArtifact(name, directory));
  MutexLock lock(&mutex_);
  models_[name] = artifact;
  directories_[name] = directory;
  return absl::OkStatus();
}

absl::Status DirectorySource::AddAdapter(const std::string& name,
                                         const std::string& directory,
                                         const std::string& base_model) {
  AdapterArtifact adapter;
  SL_ASSIGN_OR_RETURN(adapter.artifact, ReadArtifact(name, directory));
  adapter.base_model = base_model;
  MutexLock lock(&mutex_);
  adapter.base_model_digest = models_.at(base_model).digest;
  adapters_[name] = adapter;
  directories_[name] = directory;
  return absl::OkStatus();
}

void DirectorySource::RemoveModel(const std::string& name) {
  MutexLock lock(&mutex_);
  models_.erase(name);
}

void DirectorySource::SetUnreachable(bool unreachable) {
  MutexLock lock(&mutex_);
  unreachable_ = unreachable;
}

int DirectorySource::downloads() const {
  MutexLock lock(&mutex_);
  return downloads_;
}

absl::Status DirectorySource::CheckReachable() const {
  if (!unreachable_) return absl::OkStatus();
  return absl::UnavailableError("the test's source is down");
}

absl::StatusOr<Artifact> DirectorySource::GetModel(const std::string& name) {
  MutexLock lock(&mutex_);
  SL_RETURN_IF_ERROR(CheckReachable());
  const auto it = models_.find(name);
  if (it == models_.end()) {
    return absl::NotFoundError(fmt::format("model {} does not exist", name));
  }
  return it->second;
}

absl::StatusOr<AdapterArtifact> DirectorySource::GetAdapter(
    const std::string& name) {
  MutexLock lock(&mutex_);
  SL_RETURN_IF_ERROR(CheckReachable());
  const auto it = adapters_.find(name);
  if (it == adapters_.end()) {
    return absl::NotFoundError(fmt::format("adapter {} does not exist", name));
  }
  return it->second;
}

absl::StatusOr<std::string> DirectorySource::DirectoryOf(
    const std::string& name) const {
  MutexLock lock(&mutex_);
  SL_RETURN_IF_ERROR(CheckReachable());
  const auto it = directories_.find(name);
  if (it == directories_.end()) {
    return absl::NotFoundError(fmt::format("{} does not exist", name));
  }
  return it->second;
}

absl::Status DirectorySource::DownloadModel(const Artifact& model,
                                            const std::string& directory) {
  return Copy(model.name, directory);
}

absl::Status DirectorySource::DownloadAdapter(const Artifact& adapter,
                                              const std::string& directory) {
  return Copy(adapter.name, directory);
}

absl::Status DirectorySource::Copy(const std::string& name,
                                   const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::string from, DirectoryOf(name));
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(from));
  for (const std::string& path : paths) {
    SL_ASSIGN_OR_RETURN(const std::string content,
                        ReadFile(JoinPath(from, path)));
    SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(directory, path), content));
  }
  MutexLock lock(&mutex_);
  ++downloads_;
  return absl::OkStatus();
}

}  // namespace sinklora::inference
