// SPDX-License-Identifier: Apache-2.0
#include "services/worker/model_cache.h"

#include <fmt/format.h>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora::worker {
namespace {

constexpr size_t kDigestCharacters = 64;

// The digest becomes part of a path.
absl::Status CheckDigest(const std::string& digest) {
  if (digest.size() == kDigestCharacters &&
      digest.find_first_not_of("0123456789abcdef") == std::string::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("base_model_digest is \"{}\", allowed are 64 lower-case "
                  "hexadecimal digits",
                  digest));
}

absl::Status VerifyFiles(const registry::v1::Model& model,
                         const std::string& dir) {
  for (const auto& file : model.files()) {
    if (!IsSafeRelativePath(file.path())) {
      return absl::DataLossError(
          fmt::format("model {} has a file of the unsafe path {}", model.name(),
                      file.path()));
    }
    SL_ASSIGN_OR_RETURN(const std::string sha256,
                        Sha256OfFile(JoinPath(dir, file.path())));
    if (sha256 == file.sha256()) continue;
    return absl::DataLossError(
        fmt::format("{} of model {} has SHA-256 {}, expected {}", file.path(),
                    model.name(), sha256, file.sha256()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelCache>> ModelCache::Create(
    const std::string& directory, Remote* remote) {
  const std::string work_dir = JoinPath(directory, "work");
  SL_RETURN_IF_ERROR(RemoveAll(work_dir));
  SL_RETURN_IF_ERROR(MakeDirs(work_dir));
  SL_RETURN_IF_ERROR(MakeDirs(JoinPath(directory, "models")));
  return std::unique_ptr<ModelCache>(
      new ModelCache(directory, work_dir, remote));
}

absl::StatusOr<std::string> ModelCache::Fetch(
    const std::string& name, const std::string& digest,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(CheckDigest(digest));
  SL_ASSIGN_OR_RETURN(const registry::v1::Model model, remote_->GetModel(name));
  if (model.digest() != digest) {
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     fmt::format("model {} has digest {}, the job needs {}",
                                 name, model.digest(), digest),
                     {"BASE_MODEL_CHANGED", {{"model", name}}});
  }
  const std::string dir =
      JoinPath(JoinPath(directory_, "models"), model.digest());
  if (FileExists(JoinPath(dir, "config.json"))) {
    const absl::Status verified = VerifyFiles(model, dir);
    if (verified.ok()) return dir;
    LogWarning("fetching model {} again: {}", name,
               std::string(verified.message()));
  }
  SL_RETURN_IF_ERROR(RemoveAll(dir));
  // One download at a time: what others left is of a model nobody waits for.
  SL_ASSIGN_OR_RETURN(const std::string incoming,
                      MakeOnlyDir(JoinPath(directory_, "incoming"), digest));
  absl::Status status = remote_->DownloadModel(model, incoming, cancellation);
  // What has arrived is worth keeping only when the rest may follow.
  if (MayResume(status)) return status;
  if (status.ok()) status = VerifyFiles(model, incoming);
  if (status.ok()) status = CommitDirectory(incoming, dir);
  if (!status.ok()) {
    RemoveAll(incoming).IgnoreError();
    return status;
  }
  return dir;
}

}  // namespace sinklora::worker
