// Runs a backend with memory of its own on views of host memory, so that the
// tests of the ops serve it, too. For each op it copies what the params view to
// the device, gaps between rows included, runs the op there and copies back
// what the op may write; views of the same memory stay views of the same
// memory.
//
// Params that the op refuses by shape go through as they are, and after a fault
// nothing is copied back.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_CUDA_HOST_VIEW_BACKEND_H_
#define SINKLORA_TESTS_KERNELS_CUDA_HOST_VIEW_BACKEND_H_

#include <memory>

#include "kernels/backend.h"

namespace sinklora::kernels {

std::unique_ptr<Backend> MakeHostViews(std::unique_ptr<Backend> device);

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_CUDA_HOST_VIEW_BACKEND_H_
