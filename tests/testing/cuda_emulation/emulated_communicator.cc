// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/emulated_communicator.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/cuda_emulation/runtime.h"

namespace sinklora::emulation {
namespace {

using kernels::CollectiveId;
using kernels::JoinCollectiveParams;
using kernels::OkStatus;
using kernels::Status;
using kernels::StatusCode;
using kernels::cuda::Runtime;
using kernels::cuda::Transfer;

// How often a wait looks at the abort flag.
constexpr std::chrono::milliseconds kPoll(1);

std::atomic<int> failing_rank{-1};
std::atomic<int> exchanges_until_failure{0};

Status Unavailable(int rank, const std::string& what) {
  return Status(StatusCode::kUnavailable,
                "emulated link of rank " + std::to_string(rank) + ": " + what);
}

struct Group {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;  // of the first that came
  std::set<int> joined, left, devices;
  // By sender and receiver.
  std::map<std::pair<int, int>, std::deque<std::vector<uint8_t>>> mail;
};

struct Groups {
  std::mutex mutex;
  int64_t made = 0;
  std::map<std::string, std::shared_ptr<Group>> by_id;
};

Groups& AllGroups() {
  static Groups groups;
  return groups;
}

std::string KeyOf(const CollectiveId& id) {
  return std::string(id.bytes.data(), id.bytes.size());
}

class EmulatedCommunicator final : public kernels::cuda::Communicator {
 public:
  EmulatedCommunicator(std::shared_ptr<Group> group,
                       const JoinCollectiveParams& params, Runtime* runtime)
      : group_(std::move(group)),
        rank_(params.rank),
        abort_(params.abort),
        runtime_(runtime) {}

  ~EmulatedCommunicator() override {
    static_cast<void>(runtime_->Enter());
    cudaFree(memory_);
    const std::lock_guard<std::mutex> lock(group_->mutex);
    group_->left.insert(rank_);
    group_->changed.notify_all();
  }

  Status Join(const JoinCollectiveParams& params, int64_t memory_bytes) {
    if (cudaMalloc(&memory_, static_cast<size_t>(memory_bytes)) !=
        cudaSuccess) {
      return Status(StatusCode::kResourceExhausted, "cudaMalloc");
    }
    memory_bytes_ = memory_bytes;
    std::unique_lock<std::mutex> lock(group_->mutex);
    if (group_->size == 0) group_->size = params.size;
    if (group_->size != params.size) {
      return Unavailable(rank_,
                         "the group has " + std::to_string(group_->size) +
                             " ranks, not " + std::to_string(params.size));
    }
    if (!group_->joined.insert(rank_).second) {
      return Unavailable(rank_, "this rank has joined already");
    }
    if (!group_->devices.insert(runtime_->properties().index).second) {
      return Unavailable(rank_, "another rank has this device");
    }
    group_->changed.notify_all();
    return Await(&lock, [&] {
      return static_cast<int>(group_->joined.size()) == group_->size;
    });
  }

  std::string name() const override { return "emulated links"; }
  void* memory() const override { return memory_; }

  Status Exchange(std::span<const Transfer> sends,
                  std::span<const Transfer> receives) override {
    if (failing_rank == rank_ && --exchanges_until_failure == 0) {
      failing_rank = -1;
      return Unavailable(rank_, "broken");
    }
    for (const Transfer& t : sends) {
      if (Status status = Check(t); !status.ok()) return status;
      std::vector<uint8_t> bytes(static_cast<size_t>(t.size_bytes));
      Status status =
          Copied(cudaMemcpyAsync(bytes.data(), t.data, bytes.size(),
                                 cudaMemcpyDeviceToHost, runtime_->stream()));
      if (!status.ok()) return status;
      const std::lock_guard<std::mutex> lock(group_->mutex);
      group_->mail[{rank_, t.peer}].push_back(std::move(bytes));
      group_->changed.notify_all();
    }
    for (const Transfer& t : receives) {
      if (Status status = Check(t); !status.ok()) return status;
      if (Status status = Receive(t); !status.ok()) return status;
    }
    return OkStatus();
  }

  Status Wait() override {
    if (*abort_) return Aborted();
    return runtime_->Synchronize();
  }

 private:
  Status Aborted() const { return Unavailable(rank_, "aborted"); }

  static Status Copied(cudaError_t error) {
    return error == cudaSuccess ? OkStatus()
                                : Status(StatusCode::kInternal,
                                         "cuda: copy of an exchange failed");
  }

  Status Check(const Transfer& t) const {
    const auto* begin = static_cast<const char*>(memory_);
    const auto* at = static_cast<const char*>(t.data);
    if (t.size_bytes <= 0 || at < begin ||
        at + t.size_bytes > begin + memory_bytes_) {
      return Unavailable(rank_, "a transfer is not in its memory");
    }
    if (t.peer < 0 || t.peer >= group_->size || t.peer == rank_) {
      return Unavailable(rank_, "a transfer has no peer");
    }
    return OkStatus();
  }

  Status Receive(const Transfer& t) {
    std::vector<uint8_t> bytes;
    {
      std::unique_lock<std::mutex> lock(group_->mutex);
      auto& box = group_->mail[{t.peer, rank_}];
      Status status = Await(&lock, [&] {
        return !box.empty() || group_->left.count(t.peer) != 0;
      });
      if (!status.ok()) return status;
      if (box.empty()) return Unavailable(rank_, "its peer has left");
      bytes = std::move(box.front());
      box.pop_front();
    }
    if (static_cast<int64_t>(bytes.size()) != t.size_bytes) {
      return Unavailable(rank_, "the ends of a transfer differ in size");
    }
    return Copied(cudaMemcpyAsync(t.data, bytes.data(), bytes.size(),
                                  cudaMemcpyHostToDevice, runtime_->stream()));
  }

  template <typename Condition>
  Status Await(std::unique_lock<std::mutex>* lock, Condition condition) {
    while (!condition()) {
      if (*abort_) return Aborted();
      // system_clock: see common/base/mutex.h.
      group_->changed.wait_until(*lock,
                                 std::chrono::system_clock::now() + kPoll);
    }
    return *abort_ ? Aborted() : OkStatus();
  }

  const std::shared_ptr<Group> group_;
  const int rank_;
  const std::atomic<bool>* const abort_;
  Runtime* const runtime_;
  void* memory_ = nullptr;
  int64_t memory_bytes_ = 0;
};

}  // namespace

Status EmulatedLibrary::MakeId(CollectiveId* out) {
  Groups& groups = AllGroups();
  const std::lock_guard<std::mutex> lock(groups.mutex);
  const std::string text = "emulated " + std::to_string(++groups.made);
  *out = CollectiveId();
  text.copy(out->bytes.data(), out->bytes.size());
  groups.by_id[KeyOf(*out)] = std::make_shared<Group>();
  return OkStatus();
}

Status EmulatedLibrary::Join(
    const JoinCollectiveParams& params, int64_t memory_bytes, Runtime* runtime,
    std::unique_ptr<kernels::cuda::Communicator>* out) {
  std::shared_ptr<Group> group;
  {
    Groups& groups = AllGroups();
    const std::lock_guard<std::mutex> lock(groups.mutex);
    const auto found = groups.by_id.find(KeyOf(params.id));
    if (found == groups.by_id.end()) {
      return Unavailable(params.rank, "nobody made this id");
    }
    group = found->second;
  }
  auto communicator =
      std::make_unique<EmulatedCommunicator>(std::move(group), params, runtime);
  Status status = communicator->Join(params, memory_bytes);
  if (status.ok()) *out = std::move(communicator);
  return status;
}

void FailExchange(int rank, int count) {
  exchanges_until_failure = count;
  failing_rank = rank;
}

}  // namespace sinklora::emulation
