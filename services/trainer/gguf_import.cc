// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/gguf_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "services/trainer/artifact_checks.h"

namespace sinklora::trainer {
namespace {

bool IsGguf(const common::v1::FileInfo& file) {
  return file.path().ends_with(".gguf");
}

}  // namespace

absl::StatusOr<StagedModel> ConvertGguf(StagedFiles staged,
                                        const ArtifactStore& artifacts) {
  StagedModel model;
  const bool directory = std::ranges::any_of(
      staged.files, [](const auto& f) { return f.path() == "config.json"; });
  const auto gguf = std::ranges::find_if(staged.files, IsGguf);
  if (directory || gguf == staged.files.end()) {
    if (staged.files.size() == 1 && !directory) {
      const std::string& path = staged.files[0].path();
      return MakeError(absl::StatusCode::kInvalidArgument,
                       fmt::format("{}: a model is a directory with "
                                   "config.json, *.safetensors and a "
                                   "tokenizer, or one .gguf file",
                                   path),
                       {"UNKNOWN_FORMAT", {{"path", path}}});
    }
    model.staged = std::move(staged);
    return model;
  }
  if (staged.files.size() != 1) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        fmt::format("{} with {} more files: a GGUF model is imported as that "
                    "one file",
                    gguf->path(), staged.files.size() - 1),
        {"UNKNOWN_FORMAT", {{"path", gguf->path()}}});
  }
  // The room for the directory: the file may be of one byte a parameter, which
  // become two.
  SL_ASSIGN_OR_RETURN(const auto room,
                      artifacts.disk()->Reserve(2 * gguf->size_bytes()));
  SL_ASSIGN_OR_RETURN(model.staged.dir, artifacts.NewStaging());
  model.staged.path = JoinPath(model.staged.dir->path(), "model");
  const absl::Status converted =
      ImportGguf(JoinPath(staged.path, gguf->path()), model.staged.path);
  if (!converted.ok()) return AsUploadError(converted, staged.path);
  SL_ASSIGN_OR_RETURN(model.staged.files, DescribeFiles(model.staged.path));
  model.lineage.set_gguf_sha256(gguf->sha256());
  return model;
}

}  // namespace sinklora::trainer
