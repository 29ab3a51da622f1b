// An ArtifactSource over directories of the test's disk: models and adapters by
// name, which a test adds, replaces, removes and makes unreachable.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_INFERENCE_DIRECTORY_SOURCE_H_
#define SINKLORA_TESTS_SERVICES_INFERENCE_DIRECTORY_SOURCE_H_

#include <map>
#include <string>

#include "common/base/mutex.h"
#include "services/inference/artifact_source.h"

namespace sinklora::inference {

class DirectorySource final : public ArtifactSource {
 public:
  // Makes `directory` known as `name`; replaces what had the name.
  absl::Status AddModel(const std::string& name, const std::string& directory);
  absl::Status AddAdapter(const std::string& name, const std::string& directory,
                          const std::string& base_model);
  void RemoveModel(const std::string& name);
  // Every call fails with kUnavailable while set.
  void SetUnreachable(bool unreachable);
  int downloads() const;

  absl::StatusOr<Artifact> GetModel(const std::string& name) override;
  absl::StatusOr<AdapterArtifact> GetAdapter(const std::string& name) override;
  absl::Status DownloadModel(const Artifact& model,
                             const std::string& directory) override;
  absl::Status DownloadAdapter(const Artifact& adapter,
                               const std::string& directory) override;
  // Where the files of a known artifact are.
  absl::StatusOr<std::string> DirectoryOf(const std::string& name) const;

 private:
  absl::Status CheckReachable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Copy(const std::string& name, const std::string& directory);

  mutable Mutex mutex_;
  std::map<std::string, Artifact> models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, AdapterArtifact> adapters_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> directories_ ABSL_GUARDED_BY(mutex_);
  bool unreachable_ ABSL_GUARDED_BY(mutex_) = false;
  int downloads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_TESTS_SERVICES_INFERENCE_DIRECTORY_SOURCE_H_
