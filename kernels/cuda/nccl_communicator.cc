// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/nccl_communicator.h"

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

namespace sinklora::kernels::cuda {
namespace {

constexpr std::chrono::microseconds kPoll(50);

Status Checked(const std::string& device, cudaError_t error, const char* call) {
  if (error == cudaSuccess) return OkStatus();
  return Status(StatusCode::kInternal, device + ": " + call + ": " +
                                           cudaGetErrorName(error) + " (" +
                                           cudaGetErrorString(error) + ")");
}

}  // namespace

NcclCommunicator::NcclCommunicator(const NcclFunctions* nccl, Runtime* runtime,
                                   const std::atomic<bool>* abort)
    : nccl_(nccl),
      runtime_(runtime),
      abort_(abort),
      device_("cuda:" + std::to_string(runtime->properties().index)) {}

Status NcclCommunicator::Join(const NcclFunctions* nccl,
                              const JoinCollectiveParams& params,
                              int64_t memory_bytes, Runtime* runtime,
                              std::unique_ptr<Communicator>* out) {
  std::unique_ptr<NcclCommunicator> communicator(
      new NcclCommunicator(nccl, runtime, params.abort));
  Status status = communicator->Init(params, memory_bytes);
  if (status.ok()) *out = std::move(communicator);
  return status;
}

Status NcclCommunicator::Init(const JoinCollectiveParams& params,
                              int64_t memory_bytes) {
  // Not from the runtime's pool: peers cannot reach that. And before any rank
  // runs anything, because it waits for devices.
  const cudaError_t allocated =
      cudaMalloc(&memory_, static_cast<size_t>(memory_bytes));
  if (allocated == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // is reported here
    return Status(StatusCode::kResourceExhausted,
                  device_ + ": join_collective: no " +
                      std::to_string(memory_bytes) + " bytes of device memory");
  }
  Status status = Checked(device_, allocated, "cudaMalloc");
  if (status.ok()) {
    status = Checked(device_,
                     cudaEventCreateWithFlags(&passed_, cudaEventDisableTiming),
                     "cudaEventCreate");
  }
  if (!status.ok()) return status;
  ncclUniqueId id;
  static_assert(sizeof(id) == sizeof(params.id.bytes));
  std::memcpy(&id, params.id.bytes.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return Settle(
      "ncclCommInitRankConfig",
      nccl_->comm_init(&comm_, params.size, id, params.rank, &config));
}

NcclCommunicator::~NcclCommunicator() {
  static_cast<void>(runtime_->Enter());
  Close();
  if (passed_ != nullptr) cudaEventDestroy(passed_);
  if (memory_ != nullptr) cudaFree(memory_);
}

void NcclCommunicator::Close() {
  if (comm_ == nullptr) return;
  // Not ncclCommDestroy, which waits for the other ranks.
  nccl_->comm_abort(comm_);
  comm_ = nullptr;
  static_cast<void>(runtime_->Synchronize());
}

Status NcclCommunicator::Failed(const char* call, ncclResult_t result) {
  Status status = nccl_->Failed(device_, call, result, comm_);
  Close();
  return status;
}

Status NcclCommunicator::CheckGroup() {
  if (comm_ == nullptr) {
    return Status(StatusCode::kUnavailable, device_ + ": the group is closed");
  }
  if (!abort_->load(std::memory_order_acquire)) return OkStatus();
  Close();
  return Status(StatusCode::kUnavailable, device_ + ": the group was aborted");
}

Status NcclCommunicator::Settle(const char* call, ncclResult_t result) {
  while (result == ncclInProgress) {
    if (Status status = CheckGroup(); !status.ok()) return status;
    if (const ncclResult_t asked = nccl_->get_async_error(comm_, &result);
        asked != ncclSuccess) {
      return Failed("ncclCommGetAsyncError", asked);
    }
    if (result == ncclInProgress) std::this_thread::sleep_for(kPoll);
  }
  return result == ncclSuccess ? OkStatus() : Failed(call, result);
}

Status NcclCommunicator::Exchange(std::span<const Transfer> sends,
                                  std::span<const Transfer> receives) {
  if (Status status = CheckGroup(); !status.ok()) return status;
  if (sends.empty() && receives.empty()) return OkStatus();
  const char* call = "ncclGroupStart";
  ncclResult_t result = nccl_->group_start();
  if (result != ncclSuccess) return Failed(call, result);
  const auto note = [&](const char* name, ncclResult_t queued) {
    const bool fine = queued == ncclSuccess || queued == ncclInProgress;
    if (fine || result != ncclSuccess) return;
    call = name;
    result = queued;
  };
  for (const Transfer& t : sends) {
    note("ncclSend", nccl_->send(t.data, static_cast<size_t>(t.size_bytes),
                                 ncclInt8, t.peer, comm_, runtime_->stream()));
  }
  for (const Transfer& t : receives) {
    note("ncclRecv",
         nccl_->receive(t.data, static_cast<size_t>(t.size_bytes), ncclInt8,
                        t.peer, comm_, runtime_->stream()));
  }
  const ncclResult_t ended = nccl_->group_end();
  if (result != ncclSuccess) return Failed(call, result);
  return Settle("ncclGroupEnd", ended);
}

Status NcclCommunicator::Wait() {
  if (Status status = CheckGroup(); !status.ok()) return status;
  Status status = Checked(device_, cudaEventRecord(passed_, runtime_->stream()),
                          "cudaEventRecord");
  while (status.ok()) {
    const cudaError_t passed = cudaEventQuery(passed_);
    if (passed != cudaErrorNotReady) {
      status = Checked(device_, passed, "wait for the collective");
      break;
    }
    status = CheckGroup();
    if (!status.ok()) return status;
    std::this_thread::sleep_for(kPoll);
    ncclResult_t result = ncclSuccess;
    status =
        Settle("ncclCommGetAsyncError", nccl_->get_async_error(comm_, &result));
    if (status.ok()) status = Settle("collective", result);
  }
  return status;
}

}  // namespace sinklora::kernels::cuda
