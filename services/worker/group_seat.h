// A worker's seat in a job that several workers train together: how its devices
// find those of the others, and what it waits for.
//
// Until all devices have joined, any cause to stop ends the wait for the others
// at once. From then on workers stop together, between two steps, and only the
// loss of the lease, which all have in common, ends a wait.
//
// Thread-compatible. Borrows the keeper, whose OnStop() it takes.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_GROUP_SEAT_H_
#define SINKLORA_SERVICES_WORKER_GROUP_SEAT_H_

#include <atomic>

#include "absl/status/statusor.h"
#include "common/model/rank_place.h"
#include "kernels/backend.h"
#include "services/worker/lease_keeper.h"

namespace sinklora::worker {

class GroupSeat {
 public:
  explicit GroupSeat(LeaseKeeper* keeper);
  ~GroupSeat();

  bool alone() const { return keeper_->lease().seats() <= 1; }
  // Does what is done once a job: reports, checkpoints, the result.
  bool leads() const { return keeper_->lease().seat() == 0; }
  bool joined() const { return joined_; }
  bool aborted() const { return abort_.aborted(); }

  // Where this worker's devices are among all. Borrows this object.
  RankPlace place();
  // The devices of all workers work together from now on.
  void SetJoined() { joined_ = true; }

  // Keeps the lease until it is over for all.
  void AwaitEnd();
  // The devices cannot reach each other any more, for a reason that another
  // worker may know better: whether the lease is over within its time.
  bool AwaitWord();

 private:
  absl::StatusOr<kernels::CollectiveId> GetId(kernels::Backend* backend);

  LeaseKeeper* const keeper_;
  GroupAbort abort_;
  std::atomic<bool> joined_{false};
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_GROUP_SEAT_H_
