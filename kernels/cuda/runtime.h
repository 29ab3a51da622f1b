// What the CUDA backend asks of a device apart from running kernels: memory,
// copies, order. One object is one device with one stream; all that is queued
// runs in order.
//
// Implemented by the CUDA runtime (cuda_runtime.h) in the plugin and by the
// emulator in the tests, so that everything above it is the same code in both.
//
// Thread-compatible. Errors: kResourceExhausted names the bytes asked for and
// those there are; kInternal is an error of the device, after which it is lost.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_RUNTIME_H_
#define SINKLORA_KERNELS_CUDA_RUNTIME_H_

#include <cstdint>
#include <string>

#include "kernels/status.h"

struct CUstream_st;     // what a cudaStream_t points to
struct CUgraphExec_st;  // what a cudaGraphExec_t points to

namespace sinklora::kernels::cuda {

using Stream = CUstream_st*;
// Recorded work, ready to be queued.
using Graph = CUgraphExec_st*;

struct DeviceProperties {
  std::string name;
  int index = 0;  // N of "cuda:N"
  int compute_major = 0, compute_minor = 0;
  int sm_count = 0;
  int64_t shared_bytes_per_block = 0;  // the most a kernel may opt in to
  int64_t l2_bytes = 0;
  int64_t memory_bytes = 0;
};

class Runtime {
 public:
  // Marks in the stream, by number.
  static constexpr int kEvents = 8;

  virtual ~Runtime() = default;

  virtual const DeviceProperties& properties() const = 0;
  virtual Stream stream() const = 0;
  // Makes the device that of the calling thread; before other calls on it.
  virtual Status Enter() = 0;

  // Device memory, 256-byte aligned. Freed memory is handed out again without
  // asking the system; what is queued on it still runs first.
  virtual Status Allocate(int64_t size_bytes, void** out) = 0;
  virtual void Free(void* data) = 0;
  // Host memory the device copies from and to by itself.
  virtual Status AllocatePinned(int64_t size_bytes, void** out) = 0;
  virtual void FreePinned(void* data) = 0;

  // Queued. Host addresses are pinned ones, in use until a later Wait or
  // Synchronize.
  virtual Status CopyToDevice(const void* pinned, void* device,
                              int64_t size_bytes) = 0;
  virtual Status CopyToHost(const void* device, void* pinned,
                            int64_t size_bytes) = 0;
  virtual Status CopyOnDevice(const void* from, void* to,
                              int64_t size_bytes) = 0;
  virtual Status Zero(void* device, int64_t size_bytes) = 0;

  // Sets mark `event` in [0, kEvents) behind all that is queued.
  virtual Status Record(int event) = 0;
  // Waits until the device has passed the mark; at once if it was never set.
  virtual Status Wait(int event) = 0;
  virtual Status Synchronize() = 0;

  // From here to EndRecording what is queued is recorded and does not run, with
  // its arguments as they are now. All that allocates, waits or copies from or
  // to the host is refused with kInvalidArgument; Free must not be called.
  // Errors of this and of the next two, and of what is queued in between, are
  // the device's only where Recover says so.
  virtual Status BeginRecording() = 0;
  // Ends it whatever it returns. `graph` null: what was recorded is dropped;
  // it becomes null where this fails.
  virtual Status EndRecording(Graph* graph) = 0;
  // Queues what was recorded; nothing of it where this fails.
  virtual Status Replay(Graph graph) = 0;
  // Forgets the error of a call and waits for the device. OK when it goes on.
  virtual Status Recover() = 0;
  // Waits for replays that are queued.
  virtual void Drop(Graph graph) = 0;
  bool recording() const { return recording_; }

 protected:
  // OK unless ops are recorded.
  Status NotRecording(const char* call) const {
    if (!recording_) return OkStatus();
    return InvalidArgument(std::string("repeat: ") + call +
                           " among ops that are recorded, must not be");
  }

  bool recording_ = false;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_RUNTIME_H_
