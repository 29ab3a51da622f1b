// What carries collectives between GPUs: NCCL, which is opened when the first
// group is made. Programs that use one GPU never touch it.
//
// Implemented by nccl_library.cc, or, where the build found no nccl.h, by
// nccl_absent.cc, which refuses.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_NCCL_LIBRARY_H_
#define SINKLORA_KERNELS_CUDA_NCCL_LIBRARY_H_

#include <memory>

#include "kernels/cuda/communicator.h"

namespace sinklora::kernels::cuda {

std::unique_ptr<CommunicatorLibrary> OpenNccl();

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_NCCL_LIBRARY_H_
