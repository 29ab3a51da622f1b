// What says that a directory is a whole training checkpoint: manifest.json,
// written last, with format, version, step, options of the run, and size and
// SHA-256 of the one state file. Stateless, thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_CHECKPOINT_MANIFEST_H_
#define SINKLORA_COMMON_WEIGHTS_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

inline constexpr char kCheckpointManifestFile[] = "manifest.json";
inline constexpr char kCheckpointStateFile[] = "state.safetensors";

struct CheckpointManifest {
  int64_t step = 0;          // optimizer steps done, >= 1
  std::string options_json;  // a JSON object; see internal::OptionsJson
  int64_t state_size_bytes = 0;
  std::string state_sha256;
};

// The manifest in `directory`. kNotFound when there is none, kDataLoss naming
// the file when it is not one, kFailedPrecondition for another version.
absl::StatusOr<CheckpointManifest> ReadCheckpointManifest(
    const std::string& directory);
// REQUIRES: options_json is a JSON object.
absl::Status WriteCheckpointManifest(const std::string& directory,
                                     const CheckpointManifest& manifest);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_CHECKPOINT_MANIFEST_H_
