// One rank of a group on NCCL.
//
// Its calls never wait inside NCCL or the CUDA runtime: the communicator is a
// non-blocking one, and everything is polled together with the abort flag and
// NCCL's errors, so that no rank hangs when another one fails.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_NCCL_COMMUNICATOR_H_
#define SINKLORA_KERNELS_CUDA_NCCL_COMMUNICATOR_H_

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/communicator.h"

namespace sinklora::kernels::cuda {

// The functions that are used, of a library that is loaded on demand.
struct NcclFunctions {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) comm_init = nullptr;
  decltype(&ncclCommAbort) comm_abort = nullptr;
  decltype(&ncclCommGetAsyncError) get_async_error = nullptr;
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclGetLastError) get_last_error = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) receive = nullptr;
  std::string name;  // "NCCL 2.28.9"

  // kUnavailable names the file or function that is missing, or the version
  // that is too old. The library stays loaded.
  Status Load();
  // kUnavailable that names the call and what NCCL says of it.
  Status Failed(const std::string& where, const char* call, ncclResult_t result,
                ncclComm_t comm) const;
};

class NcclCommunicator final : public Communicator {
 public:
  // `nccl` and `runtime` must outlive it.
  static Status Join(const NcclFunctions* nccl,
                     const JoinCollectiveParams& params, int64_t memory_bytes,
                     Runtime* runtime, std::unique_ptr<Communicator>* out);
  ~NcclCommunicator() override;

  std::string name() const override { return nccl_->name; }
  void* memory() const override { return memory_; }
  Status Exchange(std::span<const Transfer> sends,
                  std::span<const Transfer> receives) override;
  Status Wait() override;

 private:
  NcclCommunicator(const NcclFunctions* nccl, Runtime* runtime,
                   const std::atomic<bool>* abort);

  Status Init(const JoinCollectiveParams& params, int64_t memory_bytes);
  // Waits until the call that gave `result` has come to its end.
  Status Settle(const char* call, ncclResult_t result);
  // Whether to go on waiting.
  Status CheckGroup();
  Status Failed(const char* call, ncclResult_t result);
  // Ends what runs on the device and gives the communicator back.
  void Close();

  const NcclFunctions* const nccl_;
  Runtime* const runtime_;
  const std::atomic<bool>* const abort_;
  const std::string device_;  // "cuda:0"
  ncclComm_t comm_ = nullptr;
  cudaEvent_t passed_ = nullptr;
  void* memory_ = nullptr;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_NCCL_COMMUNICATOR_H_
