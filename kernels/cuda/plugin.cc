// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/plugin.h"

#include <exception>
#include <utility>

#include "kernels/cuda/cublaslt_gemm.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_runtime.h"
#include "kernels/cuda/nccl_library.h"

#define SINKLORA_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))

namespace sinklora::kernels::cuda {
namespace {

Status Open(int index, const BackendOptions& options,
            std::unique_ptr<Backend>* out) {
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Gemm> gemm;
  Status status = CudaRuntime::Open(index, &runtime);
  if (status.ok()) status = CublasLtGemm::Open(runtime.get(), &gemm);
  if (!status.ok()) return status;
  return CudaBackend::Create(
      std::move(runtime), std::move(gemm), OpenNccl(), out,
      options.cuda_graphs == "off" ? 0 : Recorder::kMaxGraphs);
}

}  // namespace

SINKLORA_PLUGIN_EXPORT CudaPluginBuildFunction SinkLoraCudaBuild;
SINKLORA_PLUGIN_EXPORT CudaPluginOpenFunction SinkLoraCudaOpen;
SINKLORA_PLUGIN_EXPORT CudaPluginCountFunction SinkLoraCudaCount;

const char* SinkLoraCudaBuild() { return kCudaPluginBuild; }

void SinkLoraCudaOpen(int index, const BackendOptions& options,
                      std::unique_ptr<Backend>* out, Status* status) {
  try {
    *status = Open(index, options, out);
  } catch (const std::exception& e) {
    *status = Status(StatusCode::kInternal,
                     "cuda:" + std::to_string(index) + ": " + e.what());
  }
}

void SinkLoraCudaCount(int* count, Status* status) {
  try {
    *status = CudaRuntime::CountDevices(count);
  } catch (const std::exception& e) {
    *status = Status(StatusCode::kInternal,
                     std::string("count_cuda_devices: ") + e.what());
  }
}

}  // namespace sinklora::kernels::cuda
