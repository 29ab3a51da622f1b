// Bytes from device to device: the seam between collectives and the library
// that carries them (NCCL in the plugin, the memory of the process under the
// emulator).
//
// Thread-compatible, apart from what other ranks do at the same time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_COMMUNICATOR_H_
#define SINKLORA_KERNELS_CUDA_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/collective/collective.h"
#include "kernels/cuda/runtime.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

struct Transfer {
  int peer = 0;  // rank that sends or receives
  void* data = nullptr;
  int64_t size_bytes = 0;  // > 0
};

// One rank of a group. Errors other than kInternal (the device is lost) are
// kUnavailable, and final.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::string name() const = 0;  // e.g. "NCCL 2.28.9"
  // What can be sent from and received into: the bytes that were asked for at
  // Join, 256-byte aligned, not initialised.
  virtual void* memory() const = 0;
  // Queues all of these on the runtime's stream; they run together. At most one
  // each way a peer, as large as the peer's end of it.
  virtual Status Exchange(std::span<const Transfer> sends,
                          std::span<const Transfer> receives) = 0;
  // Waits for what is queued; an abort or the error of a rank ends it.
  virtual Status Wait() = 0;
};

class CommunicatorLibrary {
 public:
  virtual ~CommunicatorLibrary() = default;
  // kUnavailable where the library is missing.
  virtual Status MakeId(CollectiveId* out) = 0;
  // Waits until all ranks have come, or for the abort. `runtime` must outlive
  // the communicator. REQUIRES: valid params with size > 1.
  virtual Status Join(const JoinCollectiveParams& params, int64_t memory_bytes,
                      Runtime* runtime, std::unique_ptr<Communicator>* out) = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_COMMUNICATOR_H_
