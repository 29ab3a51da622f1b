// SPDX-License-Identifier: Apache-2.0
#include "common/model/device_group.h"

#include <fmt/format.h>

#include <bit>
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

// x <- the sums of its elements over all ranks.
absl::Status SumOverRanks(kernels::Backend* backend,
                          kernels::Collective* collective,
                          std::vector<float>* x) {
  const auto bytes = static_cast<int64_t>(x->size() * sizeof(float));
  kernels::Buffer buffer;
  SL_RETURN_IF_KERNEL_ERROR(backend->Allocate(bytes, &buffer));
  SL_RETURN_IF_KERNEL_ERROR(
      backend->CopyToDevice(x->data(), buffer.data(), bytes));
  const kernels::TensorView view(buffer.data(), kernels::DType::kF32,
                                 {static_cast<int64_t>(x->size())});
  SL_RETURN_IF_KERNEL_ERROR(collective->AllReduceSum({&view, 1}));
  SL_RETURN_IF_KERNEL_ERROR(collective->Wait());
  return ToAbsl(backend->CopyToHost(buffer.data(), x->data(), bytes));
}

// A double as floats that a sum with zeros leaves as they are, whatever it is:
// each holds 16 of its bits as a whole number.
constexpr int kParts = 4;
constexpr int kPartBits = 16;

void Pack(double value, float* parts) {
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int i = 0; i < kParts; ++i) {
    parts[i] = static_cast<float>((bits >> (i * kPartBits)) & 0xffff);
  }
}

double Unpack(const float* parts) {
  uint64_t bits = 0;
  for (int i = 0; i < kParts; ++i) {
    bits |= static_cast<uint64_t>(parts[i]) << (i * kPartBits);
  }
  return std::bit_cast<double>(bits);
}

}  // namespace

DeviceGroup::DeviceGroup(std::span<kernels::Backend* const> backends,
                         int64_t chunk_elements, RankPlace place)
    : backends_(backends.begin(), backends.end()),
      chunk_elements_(chunk_elements),
      place_(std::move(place)),
      abort_(place_.spans_processes() ? place_.abort : &own_abort_) {}

absl::Status DeviceGroup::Run(const Work& work) {
  FirstFailure failure;
  const auto run_rank = [&](int local) {
    std::string what;
    absl::Status status = CatchExceptions([&] { return work(local); }, &what);
    if (!what.empty()) LogError("{}: {}", backends_[local]->name(), what);
    if (status.ok()) return;
    failure.Note(std::move(status));
    abort_->Raise();  // not before: what follows from it comes second
  };
  std::vector<std::thread> threads;
  std::string what;
  absl::Status started = CatchExceptions(
      [&] {
        for (int local = 1; local < local_size(); ++local) {
          threads.emplace_back(run_rank, local);
        }
        return absl::OkStatus();
      },
      &what);
  if (started.ok()) {
    run_rank(0);
  } else {
    LogError("threads of the devices: {}", what);
    failure.Note(std::move(started));
    abort_->Raise();
  }
  for (std::thread& thread : threads) thread.join();
  abort_->Lower();
  return failure.Get();
}

absl::StatusOr<kernels::CollectiveId> DeviceGroup::MakeId() {
  if (spans_processes()) return place_.id(backends_[0]);
  kernels::CollectiveId id;
  SL_RETURN_IF_KERNEL_ERROR(backends_[0]->MakeCollectiveId(&id));
  return id;
}

absl::Status DeviceGroup::Join() {
  SL_ASSIGN_OR_RETURN(const kernels::CollectiveId id, MakeId());
  collectives_.resize(backends_.size());
  return Run([&](int local) {
    const kernels::JoinCollectiveParams params = {
        .id = id,
        .rank = RankOf(local),
        .size = size(),
        .chunk_elements = chunk_elements_,
        .abort = stop()};
    return ToAbsl(
        backends_[local]->JoinCollective(params, &collectives_[local]));
  });
}

absl::Status DeviceGroup::RunCollective(const CollectiveWork& work) {
  SL_RETURN_IF_ERROR(lost_);
  absl::Status status;
  if (abort_->aborted()) {
    status = absl::UnavailableError("the group was aborted");
  } else if (collectives_.empty()) {
    status = Join();
  }
  if (status.ok()) {
    status =
        Run([&](int local) { return work(local, collectives_[local].get()); });
  }
  if (!status.ok()) collectives_.clear();
  if (spans_processes()) lost_ = status;
  return status;
}

absl::Status DeviceGroup::Share(std::span<double> values,
                                const std::function<int(size_t)>& owner) {
  if (!spans_processes()) return absl::OkStatus();
  std::vector<float> shared;  // of local rank 0; all get the same
  SL_RETURN_IF_ERROR(RunCollective(
      [&](int local, kernels::Collective* collective) -> absl::Status {
        std::vector<float> parts(values.size() * kParts);
        for (size_t i = 0; i < values.size(); ++i) {
          if (owner(i) == RankOf(local)) Pack(values[i], &parts[i * kParts]);
        }
        SL_RETURN_IF_ERROR(SumOverRanks(backends_[local], collective, &parts));
        if (local == 0) shared = std::move(parts);
        return absl::OkStatus();
      }));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = Unpack(&shared[i * kParts]);
  }
  return absl::OkStatus();
}

absl::Status DeviceGroup::Check() {
  // Each adds 1 + its rank.
  const auto want = static_cast<float>(size() * (size() + 1) / 2);
  return RunCollective(
      [&](int local, kernels::Collective* collective) -> absl::Status {
        std::vector<float> x = {static_cast<float>(1 + RankOf(local))};
        SL_RETURN_IF_ERROR(SumOverRanks(backends_[local], collective, &x));
        if (x[0] == want) return absl::OkStatus();
        return absl::InternalError(
            fmt::format("{}: a sum over {} devices is {}, must be {}",
                        backends_[local]->name(), size(), x[0], want));
      });
}

}  // namespace sinklora
