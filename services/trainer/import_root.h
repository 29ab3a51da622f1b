// The directory of the server's own disk that clients may import from by path.
//
// Nothing outside of it is ever read: not by "..", not by an absolute path, not
// through symbolic links, also when they are swapped while a copy runs.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_IMPORT_ROOT_H_
#define SINKLORA_SERVICES_TRAINER_IMPORT_ROOT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "common/base/disk_budget.h"
#include "services/trainer/artifact_store.h"

namespace sinklora::trainer {

class ImportRoot {
 public:
  // `directory` must exist, unless it is empty: then imports by path are not
  // allowed and every Copy fails.
  static absl::StatusOr<std::unique_ptr<ImportRoot>> Create(
      const std::string& directory);

  // Copies a file, or all files below a directory, to `staged_dir`, and
  // describes the copies, in order of path. Hidden files are left out; links to
  // files below the root are followed. `path` is absolute or relative to the
  // root.
  //
  // kFailedPrecondition (IMPORT_BY_PATH_DISABLED), kPermissionDenied naming the
  // path or link (OUTSIDE_IMPORT_ROOT; LINK_TO_DIRECTORY for one below `path`),
  // kNotFound for a path that does not exist, kResourceExhausted for more than
  // `disk` has room for or 10,000 files, kCancelled.
  absl::StatusOr<FileInfos> Copy(const std::string& path,
                                 const std::string& staged_dir,
                                 DiskBudget* disk,
                                 const Cancellation& cancellation) const;

 private:
  explicit ImportRoot(std::string root) : root_(std::move(root)) {}
  const std::string root_;  // canonical; empty: not allowed
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_IMPORT_ROOT_H_
