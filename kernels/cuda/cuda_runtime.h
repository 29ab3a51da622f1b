// Runtime of a real device, on the CUDA runtime library. Memory comes from a
// pool of its own that keeps what it has got, in the order of the stream.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_CUDA_RUNTIME_H_
#define SINKLORA_KERNELS_CUDA_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>

#include <array>
#include <memory>

#include "kernels/cuda/runtime.h"

namespace sinklora::kernels::cuda {

class CudaRuntime final : public Runtime {
 public:
  // kUnavailable with the reason where device `index` cannot be used.
  static Status Open(int index, std::unique_ptr<Runtime>* out);
  // Devices that the driver shows, at least 1; kUnavailable with the reason.
  static Status CountDevices(int* out);
  ~CudaRuntime() override;

  const DeviceProperties& properties() const override { return properties_; }
  Stream stream() const override { return stream_; }
  Status Enter() override;
  Status Allocate(int64_t size_bytes, void** out) override;
  void Free(void* data) override;
  Status AllocatePinned(int64_t size_bytes, void** out) override;
  void FreePinned(void* data) override;
  Status CopyToDevice(const void* pinned, void* device,
                      int64_t size_bytes) override;
  Status CopyToHost(const void* device, void* pinned,
                    int64_t size_bytes) override;
  Status CopyOnDevice(const void* from, void* to, int64_t size_bytes) override;
  Status Zero(void* device, int64_t size_bytes) override;
  Status Record(int event) override;
  Status Wait(int event) override;
  Status Synchronize() override;
  Status BeginRecording() override;
  Status EndRecording(Graph* graph) override;
  Status Replay(Graph graph) override;
  Status Recover() override;
  void Drop(Graph graph) override;

 private:
  CudaRuntime() = default;
  Status Init(int index);
  Status NoMemory(int64_t size_bytes);

  DeviceProperties properties_;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;
  std::array<cudaEvent_t, kEvents> events_{};
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_CUDA_RUNTIME_H_
