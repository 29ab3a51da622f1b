// Where the ranks of a process are in a group that spans processes, and how
// the processes find and leave each other.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_RANK_PLACE_H_
#define SINKLORA_COMMON_MODEL_RANK_PLACE_H_

#include <atomic>
#include <functional>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace sinklora {

// Ends every wait of a group for its other ranks, for good. Thread-safe.
class GroupAbort {
 public:
  void Abort() {
    aborted_ = true;  // first: Lower() looks at it last
    stop_ = true;
  }
  bool aborted() const { return aborted_; }

  // --- for the group: a flag that its own failures raise for a while
  const std::atomic<bool>* stop() const { return &stop_; }
  void Raise() { stop_ = true; }
  void Lower() {
    stop_ = false;
    if (aborted_) stop_ = true;
  }

 private:
  std::atomic<bool> aborted_{false};
  std::atomic<bool> stop_{false};
};

// Ranks [first, first + backends) of `total` are this process's.
struct RankPlace {
  // Gets the id that all processes join with: that of rank 0 makes one on
  // `backend`, its first, and hands it out, the others wait for it. Called once
  // a group, on the caller's thread.
  using IdSource = std::function<absl::StatusOr<kernels::CollectiveId>(
      kernels::Backend* backend)>;

  int first = 0;
  int total = 0;  // 0: all ranks are this process's, and nothing below is used
  IdSource id;
  GroupAbort* abort = nullptr;  // borrowed; outlives the group

  bool spans_processes() const { return total > 0; }
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_RANK_PLACE_H_
