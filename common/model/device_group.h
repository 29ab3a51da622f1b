// Several backends that work together, a thread each: the ranks of a group, or
// those ranks of one that are this process's.
//
// Every call starts the ranks of this process and returns when all of them are
// done, so that between two calls they are at the same point. A rank that fails
// frees the others of its process from their waits. Those of other processes it
// does not reach: they wait until their GroupAbort, or until the link says that
// it is gone.
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
#include "common/model/rank_place.h"
#include "kernels/backend.h"

namespace sinklora {

class DeviceGroup {
 public:
  // `local`: of the backends of this process, from 0 on.
  using Work = std::function<absl::Status(int local)>;
  using CollectiveWork =
      std::function<absl::Status(int local, kernels::Collective* collective)>;

  // `chunk_elements`: as JoinCollectiveParams. REQUIRES: some backend; a place
  // that has room for them.
  DeviceGroup(std::span<kernels::Backend* const> backends,
              int64_t chunk_elements, RankPlace place = {});

  int local_size() const { return static_cast<int>(backends_.size()); }
  // With the ranks of all processes.
  int size() const { return spans_processes() ? place_.total : local_size(); }
  int RankOf(int local) const { return place_.first + local; }
  bool spans_processes() const { return place_.spans_processes(); }
  // Set once a rank of the running call has failed: the others may stop, too.
  const std::atomic<bool>* stop() const { return abort_->stop(); }

  // Runs `work` for every rank of this process at the same time. OK when all
  // are, else the failure that came first. Exceptions become statuses.
  absl::Status Run(const Work& work);
  // Run() with the ranks' collectives, which are joined at the first use. After
  // a failure they are given up, and the next call joins anew; of a group that
  // spans processes it is the end: every later call returns what failed.
  absl::Status RunCollective(const CollectiveWork& work);
  // values[i] <- that of rank owner(i), to the bit, on all processes. All call
  // it, with equally many values. Nothing to do, and no error, within one
  // process: its ranks share `values`.
  absl::Status Share(std::span<double> values,
                     const std::function<int(size_t)>& owner);
  // RunCollective() of a sum whose result is known: whether the devices can
  // work together at all. Errors as Backend::JoinCollective; kInternal for a
  // wrong sum.
  absl::Status Check();

 private:
  absl::StatusOr<kernels::CollectiveId> MakeId();
  absl::Status Join();

  const std::vector<kernels::Backend*> backends_;
  const int64_t chunk_elements_;
  const RankPlace place_;
  GroupAbort own_abort_;  // of a group without a place
  GroupAbort* const abort_;
  std::vector<std::unique_ptr<kernels::Collective>> collectives_;  // or none
  absl::Status lost_;  // why a group that spans processes is at its end
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_DEVICE_GROUP_H_
