// Copies between pageable host memory and the device through pinned memory.
//
// A copy to the device returns as soon as the source was read; small ones are
// laid side by side, so that the host runs ahead of the device. A copy to the
// host waits for all that is queued.
//
// Thread-compatible. Must not outlive its runtime.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_STAGING_H_
#define SINKLORA_KERNELS_CUDA_STAGING_H_

#include <cstdint>
#include <functional>

#include "kernels/cuda/runtime.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

class Staging {
 public:
  static constexpr int64_t kSegmentBytes = int64_t{2} << 20;

  explicit Staging(Runtime* runtime) : runtime_(runtime) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Allocates the pinned memory; before the first copy.
  Status Init();
  Status CopyToDevice(const void* host, void* device, int64_t size_bytes);
  // `arrived` is asked once the device has done all that was queued before, and
  // before `host` is written; its error is returned. REQUIRES: size_bytes > 0.
  Status CopyToHost(const void* device, void* host, int64_t size_bytes,
                    const std::function<Status()>& arrived);

 private:
  char* Segment(int i) const { return memory_ + i * kSegmentBytes; }
  // Moves on to the next segment and waits until the device is done with it.
  Status NextSegment();

  Runtime* const runtime_;
  char* memory_ = nullptr;  // [Runtime::kEvents][kSegmentBytes]
  int segment_ = 0;         // being filled
  int64_t filled_bytes_ = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_STAGING_H_
