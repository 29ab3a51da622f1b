// Tiny artifacts for the inference tests, written to a temporary directory:
// model "tiny" (context 256), model "other", adapter "tuned" of "tiny" with a
// context of 512 and RoPE factor 2.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_INFERENCE_SAMPLE_ARTIFACTS_H_
#define SINKLORA_TESTS_SERVICES_INFERENCE_SAMPLE_ARTIFACTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "tests/services/inference/directory_source.h"

namespace sinklora::inference {

constexpr int64_t kTinyContextTokens = 256;
constexpr int64_t kTunedContextTokens = 512;

struct SampleArtifacts {
  std::unique_ptr<TempDir> directory;
  std::unique_ptr<DirectorySource> source;

  std::string Path(const std::string& name) const {
    return JoinPath(directory->path(), name);
  }
};

absl::StatusOr<SampleArtifacts> MakeSampleArtifacts();
// Writes another "tiny": other weights in the same shape.
absl::Status WriteTinyVariant(const std::string& directory, uint64_t seed);

}  // namespace sinklora::inference

#endif  // SINKLORA_TESTS_SERVICES_INFERENCE_SAMPLE_ARTIFACTS_H_
