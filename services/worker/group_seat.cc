// SPDX-License-Identifier: Apache-2.0
#include "services/worker/group_seat.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "common/base/status.h"

namespace sinklora::worker {
namespace {

using std::chrono::milliseconds;

// Between two questions to the trainer while others are waited for.
constexpr milliseconds kAskForId(250);
constexpr milliseconds kAskForEnd(1000);

}  // namespace

GroupSeat::GroupSeat(LeaseKeeper* keeper) : keeper_(keeper) {
  if (alone()) return;
  keeper_->OnStop([this](StopCause cause) {
    if (cause == StopCause::kLeaseLost || !joined_) abort_.Abort();
  });
}

GroupSeat::~GroupSeat() { keeper_->OnStop(nullptr); }

RankPlace GroupSeat::place() {
  if (alone()) return {};
  return {.first = keeper_->lease().first_rank(),
          .total = keeper_->lease().total_ranks(),
          .id = [this](kernels::Backend* backend) { return GetId(backend); },
          .abort = &abort_};
}

absl::StatusOr<kernels::CollectiveId> GroupSeat::GetId(
    kernels::Backend* backend) {
  kernels::CollectiveId id;
  if (leads()) {
    SL_RETURN_IF_KERNEL_ERROR(backend->MakeCollectiveId(&id));
    keeper_->PublishGroup(std::string(id.bytes.data(), id.bytes.size()));
    // The others wait for it. What goes wrong goes out with the next renewal.
    keeper_->Flush().IgnoreError();
    return id;
  }
  while (true) {
    keeper_->Flush().IgnoreError();  // the keeper knows when to give up
    const std::string bytes = keeper_->group_id();
    if (bytes.size() == id.bytes.size()) {
      std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
      return id;
    }
    if (!bytes.empty()) {
      return absl::InternalError(
          fmt::format("the id of the group has {} bytes, must have {}",
                      bytes.size(), id.bytes.size()));
    }
    if (keeper_->WaitFor(StopCause::kShutdown, kAskForId)) {
      return absl::CancelledError("stopped while waiting for other workers");
    }
  }
}

void GroupSeat::AwaitEnd() {
  while (!keeper_->WaitFor(StopCause::kLeaseLost, kAskForEnd)) {
    keeper_->Flush().IgnoreError();
  }
}

bool GroupSeat::AwaitWord() {
  const milliseconds time(
      static_cast<int64_t>(1e3 * keeper_->lease().ttl_seconds()));
  for (milliseconds waited(0); waited < time; waited += kAskForEnd) {
    if (keeper_->WaitFor(StopCause::kLeaseLost, kAskForEnd)) return true;
    keeper_->Flush().IgnoreError();
  }
  return keeper_->cause() == StopCause::kLeaseLost;
}

}  // namespace sinklora::worker
