// The seams of the CUDA backend over an emulated GPU: memory and copies, and
// matrix products by a loop on the host. For that between GPUs see
// emulated_communicator.h.
//
// Copies to the host arrive when they are waited for and not before, so that
// code which reads too early reads what was there.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_RUNTIME_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_RUNTIME_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/runtime.h"

namespace sinklora::emulation {

class EmulatedRuntime final : public kernels::cuda::Runtime {
 public:
  // Of device `index`, in [0, kDevices).
  explicit EmulatedRuntime(int index);
  ~EmulatedRuntime() override;

  const kernels::cuda::DeviceProperties& properties() const override {
    return properties_;
  }
  kernels::cuda::Stream stream() const override { return stream_; }
  kernels::Status Enter() override;
  kernels::Status Allocate(int64_t size_bytes, void** out) override;
  void Free(void* data) override;
  kernels::Status AllocatePinned(int64_t size_bytes, void** out) override;
  void FreePinned(void* data) override;
  kernels::Status CopyToDevice(const void* pinned, void* device,
                               int64_t size_bytes) override;
  kernels::Status CopyToHost(const void* device, void* pinned,
                             int64_t size_bytes) override;
  kernels::Status CopyOnDevice(const void* from, void* to,
                               int64_t size_bytes) override;
  kernels::Status Zero(void* device, int64_t size_bytes) override;
  kernels::Status Record(int event) override;
  kernels::Status Wait(int event) override;
  kernels::Status Synchronize() override;
  kernels::Status BeginRecording() override;
  kernels::Status EndRecording(kernels::cuda::Graph* graph) override;
  kernels::Status Replay(kernels::cuda::Graph graph) override;
  kernels::Status Recover() override;
  void Drop(kernels::cuda::Graph graph) override;

  // Calls of Allocate until now.
  int64_t allocations() const { return allocations_; }
  // Graphs that were not dropped yet.
  int graphs() const { return graphs_; }

 private:
  struct Arrival {
    std::vector<uint8_t> bytes;
    void* pinned;
  };
  void Deliver(size_t count);

  kernels::cuda::DeviceProperties properties_;
  kernels::cuda::Stream stream_ = nullptr;
  std::vector<Arrival> arrivals_;  // copies to the host not yet waited for
  std::array<size_t, kEvents> marks_{};  // arrivals before the event
  int64_t allocations_ = 0;
  int graphs_ = 0;
};

class HostGemm final : public kernels::cuda::Gemm {
 public:
  std::string name() const override { return "a host loop"; }
  kernels::Status Run(const kernels::cuda::GemmCall& call,
                      kernels::cuda::Stream stream) override;
};

// A CudaBackend on emulated GPU `index`. `runtime`, when given, becomes the
// seam it stands on, for as long as it lives. `max_graphs` as Recorder's.
kernels::Status OpenEmulated(
    std::unique_ptr<kernels::Backend>* out,
    const EmulatedRuntime** runtime = nullptr, int index = 0,
    int max_graphs = kernels::cuda::Recorder::kMaxGraphs);

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_RUNTIME_H_
