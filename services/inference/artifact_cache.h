// Content-addressed copies of registry artifacts on the local disk:
// DIR/<kind>/<digest>/<path>.
//
// A download that is cut goes on where it stopped, also after a restart
// (DIR/incoming/<digest>). A copy appears whole or not at all, and is checked
// against the SHA-256 of every file each time it is asked for: a damaged one is
// fetched again.
//
// Thread-compatible: one call at a time. One process per directory.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_ARTIFACT_CACHE_H_
#define SINKLORA_SERVICES_INFERENCE_ARTIFACT_CACHE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/inference/artifact_source.h"

namespace sinklora::inference {

class ArtifactCache {
 public:
  // Makes `directory` when absent.
  static absl::StatusOr<std::unique_ptr<ArtifactCache>> Create(
      const std::string& directory);

  using Download = std::function<absl::Status(const std::string& directory)>;
  // Directory of the artifact's files, fetched with `download` (see
  // ArtifactSource) unless a good copy is there. `kind` is "models" or
  // "adapters". kDataLoss when what was fetched is not what the artifact says,
  // kInvalidArgument for a digest that is not a SHA-256.
  absl::StatusOr<std::string> Fetch(const std::string& kind,
                                    const Artifact& artifact,
                                    const Download& download);

 private:
  explicit ArtifactCache(std::string directory)
      : directory_(std::move(directory)) {}
  const std::string directory_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_ARTIFACT_CACHE_H_
