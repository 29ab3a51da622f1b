// Starts a kernel of kernels/cuda/device.h on a stream. Errors name the kernel,
// its shape and what CUDA said; a kernel that fails while it runs shows at a
// later call, as CUDA does it. Thread-safe.
//
//   Launch("scale", ScaleKernel, {.grid = {blocks}, .block = {256}}, stream,
//          x, factor, count);
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_LAUNCH_H_
#define SINKLORA_KERNELS_CUDA_LAUNCH_H_

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/status.h"
#ifndef SINKLORA_CUDA_EMULATION
#include <cuda_runtime_api.h>
#endif

namespace sinklora::kernels::cuda {

using Stream = cudaStream_t;

struct LaunchShape {
  dim3 grid;   // a grid without blocks starts nothing and is fine
  dim3 block;  // a multiple of 32 threads
  int64_t dynamic_shared_bytes = 0;
};

// Dynamic shared memory that a kernel may have without asking.
inline constexpr int64_t kDefaultSharedBytes = 48 * 1024;

inline Status LaunchError(const char* name, const LaunchShape& shape,
                          const std::string& what) {
  const auto text = [](const dim3& d) {
    std::string out = "(";
    out.append(std::to_string(d.x)).append(", ").append(std::to_string(d.y));
    return out.append(", ").append(std::to_string(d.z)).append(")");
  };
  std::string message(name);
  message.append(": launch of grid ").append(text(shape.grid));
  message.append(", block ").append(text(shape.block)).append(", ");
  message.append(std::to_string(shape.dynamic_shared_bytes));
  message.append(" bytes of shared memory failed: ").append(what);
  return Status(StatusCode::kInternal, message);
}

#ifndef SINKLORA_CUDA_EMULATION
// The untyped half: `arguments` holds one pointer a kernel parameter.
inline cudaError_t LaunchUntyped(const void* kernel, const LaunchShape& shape,
                                 Stream stream, void** arguments) {
  if (shape.dynamic_shared_bytes > kDefaultSharedBytes) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(shape.dynamic_shared_bytes));
    if (error != cudaSuccess) return error;
  }
  return cudaLaunchKernel(kernel, shape.grid, shape.block, arguments,
                          static_cast<size_t>(shape.dynamic_shared_bytes),
                          stream);
}
#endif

template <typename... Params, typename... Args>
Status Launch(const char* name, void (*kernel)(Params...),
              const LaunchShape& shape, Stream stream, Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) {
    return OkStatus();
  }
  std::tuple<Params...> values(std::forward<Args>(args)...);
#ifdef SINKLORA_CUDA_EMULATION
  const cudaError_t error = emulation::LaunchKernel(
      shape.grid, shape.block, shape.dynamic_shared_bytes, stream,
      [kernel, values] { std::apply(kernel, values); });
#else
  const cudaError_t error = std::apply(
      [&](auto&... value) {
        void* arguments[] = {&value..., nullptr};
        return LaunchUntyped(reinterpret_cast<const void*>(kernel), shape,
                             stream, arguments);
      },
      values);
#endif
  if (error == cudaSuccess) return OkStatus();
  return LaunchError(name, shape,
                     std::string(cudaGetErrorName(error)) + " (" +
                         cudaGetErrorString(error) + ")");
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_LAUNCH_H_
