// Several backends that work together, a thread each: the ranks of a group.
//
// Every call starts all ranks and returns when all are done, so that between
// two calls they are at the same point. A rank that fails frees the others from
// their waits.
//
// Thread-compatible: one call at a time. Borrows the backends.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_DEVICE_GROUP_H_
#define SINKLORA_COMMON_MODEL_DEVICE_GROUP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sinklora {

class DeviceGroup {
 public:
  using Work = std::function<absl::Status(int rank)>;
  using CollectiveWork =
      std::function<absl::Status(int rank, kernels::Collective* collective)>;

  // `chunk_elements`: as JoinCollectiveParams. REQUIRES: some backend.
  DeviceGroup(std::span<kernels::Backend* const> backends,
              int64_t chunk_elements);

  int size() const { return static_cast<int>(backends_.size()); }
  // Set once a rank of the running call has failed: the others may stop, too.
  const std::atomic<bool>* stop() const { return &stop_; }

  // Runs `work` for every rank at the same time. OK when all are, else the
  // failure that came first. Exceptions become statuses.
  absl::Status Run(const Work& work);
  // Run() with the ranks' collectives, which are joined at the first use. After
  // a failure they are given up, and the next call joins anew.
  absl::Status RunCollective(const CollectiveWork& work);
  // RunCollective() of a sum whose result is known: whether the devices can
  // work together at all. Errors as Backend::JoinCollective; kInternal for a
  // wrong sum.
  absl::Status Check();

 private:
  absl::Status Join();

  const std::vector<kernels::Backend*> backends_;
  const int64_t chunk_elements_;
  std::atomic<bool> stop_{false};  // aborts collectives, too
  std::vector<std::unique_ptr<kernels::Collective>> collectives_;  // or none
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_DEVICE_GROUP_H_
