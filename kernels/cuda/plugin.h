// The border between a program and libsinklora_cuda.so, which is opened at run
// time so that programs start where no CUDA exists. Both sides come from one
// build: C++ types cross it, and kCudaPluginBuild tells builds apart.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_PLUGIN_H_
#define SINKLORA_KERNELS_CUDA_PLUGIN_H_

#include <memory>

#include "kernels/backend.h"

namespace sinklora::kernels::cuda {

inline constexpr char kCudaPluginFile[] = "libsinklora_cuda.so";
// Version of the project and compiler.
inline constexpr char kCudaPluginBuild[] = SINKLORA_VERSION " " __VERSION__;

// Symbols of the plugin.
inline constexpr char kCudaPluginBuildSymbol[] = "SinkLoraCudaBuild";
using CudaPluginBuildFunction = const char*();
inline constexpr char kCudaPluginOpenSymbol[] = "SinkLoraCudaOpen";
// kUnavailable without driver, device `index` or cuBLASLt.
using CudaPluginOpenFunction = void(int index, const BackendOptions& options,
                                    std::unique_ptr<Backend>* out,
                                    Status* status);
inline constexpr char kCudaPluginCountSymbol[] = "SinkLoraCudaCount";
// kUnavailable without driver or any device.
using CudaPluginCountFunction = void(int* count, Status* status);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_PLUGIN_H_
