// SPDX-License-Identifier: Apache-2.0
#include "common/model/device_group.h"

#include <fmt/format.h>

#include <string>
#include <thread>
#include <utility>

#include "common/base/exceptions.h"
#include "common/base/log.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace sinklora {
namespace {

class FirstFailure {
 public:
  void Note(absl::Status status) {
    MutexLock lock(&mutex_);
    if (status_.ok()) status_ = std::move(status);
  }
  absl::Status Get() {
    MutexLock lock(&mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// x <- the sum over all ranks of 1 + rank, which is returned.
absl::StatusOr<float> SumOfRanks(int rank, kernels::Backend* backend,
                                 kernels::Collective* collective) {
  float x = static_cast<float>(1 + rank);
  kernels::Buffer buffer;
  SL_RETURN_IF_KERNEL_ERROR(backend->Allocate(sizeof(x), &buffer));
  SL_RETURN_IF_KERNEL_ERROR(
      backend->CopyToDevice(&x, buffer.data(), sizeof(x)));
  const kernels::TensorView view(buffer.data(), kernels::DType::kF32, {1});
  SL_RETURN_IF_KERNEL_ERROR(collective->AllReduceSum({&view, 1}));
  SL_RETURN_IF_KERNEL_ERROR(collective->Wait());
  SL_RETURN_IF_KERNEL_ERROR(backend->CopyToHost(buffer.data(), &x, sizeof(x)));
  return x;
}

}  // namespace

DeviceGroup::DeviceGroup(std::span<kernels::Backend* const> backends,
                         int64_t chunk_elements)
    : backends_(backends.begin(), backends.end()),
      chunk_elements_(chunk_elements) {}

absl::Status DeviceGroup::Run(const Work& work) {
  FirstFailure failure;
  const auto run_rank = [&](int rank) {
    std::string what;
    absl::Status status = CatchExceptions([&] { return work(rank); }, &what);
    if (!what.empty()) LogError("{}: {}", backends_[rank]->name(), what);
    if (status.ok()) return;
    failure.Note(std::move(status));
    stop_ = true;  // not before: what follows from it comes second
  };
  std::vector<std::thread> threads;
  std::string what;
  absl::Status started = CatchExceptions(
      [&] {
        for (int rank = 1; rank < size(); ++rank) {
          threads.emplace_back(run_rank, rank);
        }
        return absl::OkStatus();
      },
      &what);
  if (started.ok()) {
    run_rank(0);
  } else {
    LogError("threads of the devices: {}", what);
    failure.Note(std::move(started));
    stop_ = true;
  }
  for (std::thread& thread : threads) thread.join();
  stop_ = false;
  return failure.Get();
}

absl::Status DeviceGroup::Join() {
  kernels::CollectiveId id;
  SL_RETURN_IF_KERNEL_ERROR(backends_[0]->MakeCollectiveId(&id));
  collectives_.resize(backends_.size());
  return Run([&](int rank) {
    const kernels::JoinCollectiveParams params = {
        .id = id,
        .rank = rank,
        .size = size(),
        .chunk_elements = chunk_elements_,
        .abort = &stop_};
    return ToAbsl(backends_[rank]->JoinCollective(params, &collectives_[rank]));
  });
}

absl::Status DeviceGroup::RunCollective(const CollectiveWork& work) {
  absl::Status status;
  if (collectives_.empty()) status = Join();
  if (status.ok()) {
    status =
        Run([&](int rank) { return work(rank, collectives_[rank].get()); });
  }
  if (!status.ok()) collectives_.clear();
  return status;
}

absl::Status DeviceGroup::Check() {
  const auto want = static_cast<float>(size() * (size() + 1) / 2);
  return RunCollective(
      [&](int rank, kernels::Collective* collective) -> absl::Status {
        SL_ASSIGN_OR_RETURN(const float got,
                            SumOfRanks(rank, backends_[rank], collective));
        if (got == want) return absl::OkStatus();
        return absl::InternalError(
            fmt::format("{}: a sum over {} devices is {}, must be {}",
                        backends_[rank]->name(), size(), got, want));
      });
}

}  // namespace sinklora
