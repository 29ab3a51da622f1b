// SPDX-License-Identifier: Apache-2.0
#include "common/weights/checkpoint_manifest.h"

#include <fmt/format.h>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "sinklora-training-checkpoint";
constexpr int64_t kFormatVersion = 1;
constexpr int64_t kMaxManifestBytes = 1 << 20;

}  // namespace

absl::StatusOr<CheckpointManifest> ReadCheckpointManifest(
    const std::string& directory) {
  const std::string path = JoinPath(directory, kCheckpointManifestFile);
  SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(path));
  if (size_bytes > kMaxManifestBytes) {
    return absl::DataLossError(fmt::format("{}: has {} bytes, at most {}", path,
                                           size_bytes, kMaxManifestBytes));
  }
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const absl::StatusOr<json> parsed = ParseJsonObject(text, path);
  if (!parsed.ok()) {
    return absl::DataLossError(std::string(parsed.status().message()));
  }
  const json& manifest = *parsed;
  const bool sound =
      manifest.value("format", json()) == kFormat &&
      manifest.value("step", json()).is_number_integer() &&
      manifest.value("options", json()).is_object() &&
      manifest.value("state_size_bytes", json()).is_number_integer() &&
      manifest.value("state_sha256", json()).is_string();
  if (!sound) {
    return absl::DataLossError(
        fmt::format("{}: is not a manifest of {}", path, kFormat));
  }
  if (manifest.value("version", json()) != kFormatVersion) {
    return absl::FailedPreconditionError(
        fmt::format("{}: version is {}, must be {}", path,
                    manifest.value("version", json()).dump(), kFormatVersion));
  }
  return CheckpointManifest{manifest["step"].get<int64_t>(),
                            manifest["options"].dump(),
                            manifest["state_size_bytes"].get<int64_t>(),
                            manifest["state_sha256"].get<std::string>()};
}

absl::Status WriteCheckpointManifest(const std::string& directory,
                                     const CheckpointManifest& manifest) {
  const json out = {
      {"format", kFormat},
      {"version", kFormatVersion},
      {"step", manifest.step},
      {"options", json::parse(manifest.options_json, nullptr, false)},
      {"state_size_bytes", manifest.state_size_bytes},
      {"state_sha256", manifest.state_sha256}};
  return WriteFileAtomic(JoinPath(directory, kCheckpointManifestFile),
                         out.dump(2) + "\n");
}

}  // namespace sinklora
