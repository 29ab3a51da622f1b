// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/download_plan.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "common/base/status.h"

namespace sinklora::trainer {

absl::StatusOr<std::vector<FileToSend>> PlanDownload(
    const std::string& owner,
    const google::protobuf::RepeatedPtrField<common::v1::FileInfo>& files,
    const google::protobuf::RepeatedPtrField<std::string>& paths,
    const google::protobuf::RepeatedPtrField<common::v1::FileOffset>& offsets) {
  std::map<std::string, const common::v1::FileInfo*> stored;
  for (const auto& file : files) stored[file.path()] = &file;
  std::map<std::string, FileToSend> picked;
  for (const std::string& path : paths) {
    const auto it = stored.find(path);
    if (it == stored.end()) {
      return MakeError(absl::StatusCode::kNotFound,
                       fmt::format("{} has no file {}", owner, path),
                       {"FILE_NOT_FOUND", {{"name", owner}, {"path", path}}});
    }
    picked[path] = {path, 0, it->second->sha256()};
  }
  if (paths.empty()) {
    for (const auto& [path, file] : stored) {
      picked[path] = {path, 0, file->sha256()};
    }
  }
  std::set<std::string> given;
  for (const auto& offset : offsets) {
    const auto it = picked.find(offset.path());
    if (it == picked.end() || !given.insert(offset.path()).second) {
      return absl::InvalidArgumentError(fmt::format(
          "offsets has '{}', which is {}", offset.path(),
          it == picked.end() ? "not a file to be sent" : "in it already"));
    }
    const int64_t size_bytes = stored.at(offset.path())->size_bytes();
    if (offset.offset() < 0 || offset.offset() > size_bytes) {
      return MakeError(absl::StatusCode::kOutOfRange,
                       fmt::format("offset {} of {} is not in [0, {}]",
                                   offset.offset(), offset.path(), size_bytes),
                       {"OFFSET_OUT_OF_RANGE",
                        {{"path", offset.path()},
                         {"offset", std::to_string(offset.offset())},
                         {"size_bytes", std::to_string(size_bytes)}}});
    }
    it->second.offset = offset.offset();
  }
  std::vector<FileToSend> plan;
  for (auto& [path, file] : picked) plan.push_back(std::move(file));
  return plan;
}

}  // namespace sinklora::trainer
