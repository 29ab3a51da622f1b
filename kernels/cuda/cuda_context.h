// What the CUDA kernels of one backend share: the device with its stream and
// its first error, scratch memory, matrix products, the notes on bad values and
// the records of ops that repeat. One op at a time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_CUDA_CONTEXT_H_
#define SINKLORA_KERNELS_CUDA_CUDA_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cache_decode/announced_decodes_cuda.h"
#include "kernels/cuda/device_faults.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/staging.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

class CudaContext {
 public:
  // `max_graphs` as Recorder's.
  CudaContext(std::unique_ptr<Runtime> runtime, std::unique_ptr<Gemm> gemm,
              int max_graphs = Recorder::kMaxGraphs);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  // Allocates what every op needs; before the first one.
  Status Init();

  const DeviceProperties& device() const { return runtime_->properties(); }
  Stream stream() const { return runtime_->stream(); }
  Runtime& runtime() { return *runtime_; }
  Gemm& gemm() { return *gemm_; }

  // Makes the device current; the error of it that was seen before, if any.
  Status Enter();
  // Remembers an error of the device (kInternal) for all later calls; one of
  // ops that are recorded may be the record's alone, and the recorder has it.
  Status Leave(Status status);

  // Forgets the scratch of the op before.
  void BeginOp() { scratch_.Reset(); }
  // Device memory for `count` elements until the next BeginOp, 256-byte
  // aligned, not initialised.
  template <typename T>
  Status Scratch(int64_t count, T** out) {
    void* data = nullptr;
    Status status =
        scratch_.Take(count * static_cast<int64_t>(sizeof(T)), &data);
    *out = static_cast<T*>(data);
    return status;
  }

  ScratchArena& scratch() { return scratch_; }
  // Memory of a caller; while ops are recorded FreePutOff frees it.
  void Free(void* data);
  void FreePutOff();

  // For Repeat.
  AnnouncedDecodes& decodes() { return decodes_; }
  Recorder& recorder() { return recorder_; }

  // For kernels to note bad values in; see fault_device.h.
  DeviceFaults* faults() const { return faults_; }
  // Waits for the device. kInvalidArgument with the first bad value that
  // kernels noted since the last call.
  Status TakeFaults();
  // Copies; a copy to the host waits and reports like TakeFaults.
  Status CopyToDevice(const void* host, void* device, int64_t size_bytes) {
    return staging_.CopyToDevice(host, device, size_bytes);
  }
  Status CopyToHost(const void* device, void* host, int64_t size_bytes);

 private:
  Status ClearFaults();
  // What is in seen_faults_, which is cleared on the device when it is some.
  Status ReportFaults();

  const std::unique_ptr<Runtime> runtime_;
  const std::unique_ptr<Gemm> gemm_;
  ScratchArena scratch_;
  Staging staging_;
  AnnouncedDecodes decodes_;
  Recorder recorder_;
  std::vector<void*> put_off_;  // freed while ops were recorded
  DeviceFaults* faults_ = nullptr;
  DeviceFaults* seen_faults_ = nullptr;  // pinned copy
  Status lost_;                          // the first error of the device
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_CUDA_CONTEXT_H_
