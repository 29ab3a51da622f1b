// Which files an import sends.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_UPLOAD_FILES_H_
#define SINKLORA_SERVICES_CLI_UPLOAD_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora::cli {

// Files below one directory, by paths relative to it.
struct UploadRoot {
  std::string directory;
  std::vector<std::string> files;
};

struct Upload {
  std::vector<UploadRoot> roots;
  int64_t file_count = 0;
  int64_t total_bytes = 0;
};

// The files that `paths` (files or directories, searched recursively) name,
// under paths that start with the last part of each: "docs" gives "docs/a.txt".
// Hidden files and directories inside them are left out; links to files are
// followed, links to directories are not. kNotFound for a path that does not
// exist, kInvalidArgument when nothing is left or two files would be sent under
// the same path.
absl::StatusOr<Upload> CollectFiles(const std::vector<std::string>& paths);

// The files of one directory, under paths relative to it. Otherwise as above.
absl::StatusOr<Upload> CollectDirectory(const std::string& directory);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_UPLOAD_FILES_H_
