// The seam of collectives over emulated GPUs: the threads of one process hand
// each other copies. Checks what NCCL would not: that transfers lie in the
// communicator's memory, and that both ends are of one size.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_COMMUNICATOR_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_COMMUNICATOR_H_

#include <cstdint>
#include <memory>

#include "kernels/cuda/communicator.h"

namespace sinklora::emulation {

class EmulatedLibrary final : public kernels::cuda::CommunicatorLibrary {
 public:
  kernels::Status MakeId(kernels::CollectiveId* out) override;
  kernels::Status Join(
      const kernels::JoinCollectiveParams& params, int64_t memory_bytes,
      kernels::cuda::Runtime* runtime,
      std::unique_ptr<kernels::cuda::Communicator>* out) override;
};

// The `count`th exchange from now of a rank `rank` fails with kUnavailable, as
// one over a broken link does. Once; -1 takes it back.
void FailExchange(int rank, int count);

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_EMULATED_COMMUNICATOR_H_
