// Where weights come from, without gRPC in it: the registry as the core sees
// it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_ARTIFACT_SOURCE_H_
#define SINKLORA_SERVICES_INFERENCE_ARTIFACT_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora::inference {

struct ArtifactFile {
  std::string path;  // relative, with '/'
  int64_t size_bytes = 0;
  std::string sha256;
};

// A named set of files; equal digests mean equal files.
struct Artifact {
  std::string name;
  std::string digest;
  std::vector<ArtifactFile> files;
};

struct AdapterArtifact {
  Artifact artifact;
  std::string base_model;
  std::string base_model_digest;
};

// Thread-safe. Errors: kNotFound for an unknown name, kUnavailable when the
// source cannot be reached.
class ArtifactSource {
 public:
  virtual ~ArtifactSource() = default;
  virtual absl::StatusOr<Artifact> GetModel(const std::string& name) = 0;
  virtual absl::StatusOr<AdapterArtifact> GetAdapter(
      const std::string& name) = 0;
  // Makes `directory` hold the files of the artifact, each checked against its
  // size and SHA-256, going on with what an earlier call left there. kAborted
  // when the name stands for other content by now, kDataLoss when a file is not
  // what it should be. After an error for which MayResume() is true the
  // directory is worth keeping.
  virtual absl::Status DownloadModel(const Artifact& model,
                                     const std::string& directory) = 0;
  virtual absl::Status DownloadAdapter(const Artifact& adapter,
                                       const std::string& directory) = 0;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_ARTIFACT_SOURCE_H_
