// Content-addressed copies of base models on the worker's disk:
// DIR/models/<digest>/<path>.
//
// A download that is cut goes on where it stopped, also after a restart
// (DIR/incoming/<digest>). A copy appears whole or not at all and is checked
// against the SHA-256 of every file each time it is asked for; a damaged one is
// fetched again. Nothing is ever evicted: delete DIR/models to win back the
// space.
//
// Thread-compatible: one call at a time. One process per directory. Borrows
// the remote.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_MODEL_CACHE_H_
#define SINKLORA_SERVICES_WORKER_MODEL_CACHE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "services/worker/remote.h"

namespace sinklora::worker {

class ModelCache {
 public:
  // Makes `directory` when absent and empties its work directory.
  static absl::StatusOr<std::unique_ptr<ModelCache>> Create(
      const std::string& directory, Remote* remote);

  // Directory with the files of model `name`, which must have `digest`.
  // kFailedPrecondition (reason BASE_MODEL_CHANGED) when the name stands for
  // another one by now.
  absl::StatusOr<std::string> Fetch(const std::string& name,
                                    const std::string& digest,
                                    const Cancellation* cancellation);
  // Where a job may make temporary directories.
  const std::string& work_dir() const { return work_dir_; }

 private:
  ModelCache(std::string directory, std::string work_dir, Remote* remote)
      : directory_(std::move(directory)),
        work_dir_(std::move(work_dir)),
        remote_(remote) {}
  const std::string directory_;
  const std::string work_dir_;
  Remote* const remote_;
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_MODEL_CACHE_H_
