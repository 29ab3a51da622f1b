// SPDX-License-Identifier: Apache-2.0
#include "services/curator/data_layout.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora::curator {

absl::Status CommitContent(const std::string& staged_dir,
                           const std::string& final_dir) {
  absl::Status status = CommitDirectory(staged_dir, final_dir);
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status RemoveUnreferenced(const std::string& directory,
                                const std::set<std::string>& keep) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator it(directory, error);
  for (; !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) {
    return absl::InternalError(
        fmt::format("list {}: {}", directory, error.message()));
  }
  for (const std::string& name : names) {
    if (keep.contains(name)) continue;
    LogInfo("removing {}/{}: no metadata refers to it", directory, name);
    SL_RETURN_IF_ERROR(RemoveAll(JoinPath(directory, name)));
  }
  return absl::OkStatus();
}

}  // namespace sinklora::curator
