// Opens CUDA devices through libsinklora_cuda.so.
//
// The library is looked for beside the program and in ../lib of that folder;
// SINKLORA_CUDA_PLUGIN names another file. It stays loaded. Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_PLUGIN_LOADER_H_
#define SINKLORA_KERNELS_CUDA_PLUGIN_LOADER_H_

#include <memory>
#include <string_view>

#include "kernels/backend.h"

namespace sinklora::kernels::cuda {

// Whether `device` is "cuda" or "cuda:N", and N (0 for "cuda").
// kInvalidArgument for what starts as one and is not, e.g. "cuda:x".
bool IsCudaName(std::string_view device);
Status ParseCudaName(std::string_view device, int* index);

// Opens device `index` by what `options` have for GPUs. kUnavailable with the
// reason where there is no plugin, driver, device or cuBLASLt; kInternal for a
// plugin of another build.
Status OpenCuda(int index, const BackendOptions& options,
                std::unique_ptr<Backend>* out);

// As kernels::CountCudaDevices.
Status CountDevices(int* out);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_PLUGIN_LOADER_H_
