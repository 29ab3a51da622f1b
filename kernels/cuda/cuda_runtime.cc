// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_runtime.h"

#include <cstdint>
#include <string>

namespace sinklora::kernels::cuda {
namespace {

constexpr int kLeastComputeMajor = 8;  // bf16 products, asynchronous copies

std::string NameOf(int index) { return "cuda:" + std::to_string(index); }

// "cudaErrorNoDevice (no CUDA-capable device is detected)".
std::string Text(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + " (" +
         cudaGetErrorString(error) + ")";
}

Status Checked(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return OkStatus();
  return Status(StatusCode::kInternal,
                std::string("cuda: ") + call + ": " + Text(error));
}

Status Unavailable(int index, const std::string& why) {
  return Status(StatusCode::kUnavailable,
                "open_backend: " + NameOf(index) + ": " + why);
}

Status CheckDevice(int index, cudaDeviceProp* properties) {
  int count = 0;
  // Without a driver this is an error, and `count` stays as it is.
  if (const cudaError_t error = cudaGetDeviceCount(&count);
      error != cudaSuccess) {
    return Unavailable(index, Text(error));
  }
  if (index >= count) {
    return Unavailable(
        index, "the machine has " + std::to_string(count) + " CUDA devices");
  }
  if (const cudaError_t error = cudaGetDeviceProperties(properties, index);
      error != cudaSuccess) {
    return Unavailable(index, Text(error));
  }
  if (properties->major < kLeastComputeMajor) {
    return Unavailable(index, std::string(properties->name) +
                                  " has compute capability " +
                                  std::to_string(properties->major) + "." +
                                  std::to_string(properties->minor) +
                                  ", must be at least 8.0");
  }
  if (properties->memoryPoolsSupported == 0) {
    return Unavailable(index, "its driver has no memory pools");
  }
  return OkStatus();
}

}  // namespace

Status CudaRuntime::Open(int index, std::unique_ptr<Runtime>* out) {
  std::unique_ptr<CudaRuntime> runtime(new CudaRuntime());
  if (Status status = runtime->Init(index); !status.ok()) return status;
  *out = std::move(runtime);
  return OkStatus();
}

Status CudaRuntime::CountDevices(int* out) {
  const cudaError_t error = cudaGetDeviceCount(out);
  if (error == cudaSuccess && *out > 0) return OkStatus();
  return Status(StatusCode::kUnavailable,
                "count_cuda_devices: " +
                    (error == cudaSuccess ? "there is none" : Text(error)));
}

Status CudaRuntime::Init(int index) {
  cudaDeviceProp device{};
  if (Status status = CheckDevice(index, &device); !status.ok()) return status;
  properties_ = {.name = device.name,
                 .index = index,
                 .compute_major = device.major,
                 .compute_minor = device.minor,
                 .sm_count = device.multiProcessorCount,
                 .shared_bytes_per_block =
                     static_cast<int64_t>(device.sharedMemPerBlockOptin),
                 .l2_bytes = device.l2CacheSize,
                 .memory_bytes = static_cast<int64_t>(device.totalGlobalMem)};
  cudaMemPoolProps pool{};
  pool.allocType = cudaMemAllocationTypePinned;
  pool.location = {cudaMemLocationTypeDevice, index};
  uint64_t keep = UINT64_MAX;
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) {
    error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  }
  if (error == cudaSuccess) error = cudaMemPoolCreate(&pool_, &pool);
  if (error == cudaSuccess) {
    error =
        cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep);
  }
  for (cudaEvent_t& event : events_) {
    if (error != cudaSuccess) break;
    error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  }
  return error == cudaSuccess ? OkStatus() : Unavailable(index, Text(error));
}

CudaRuntime::~CudaRuntime() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (cudaEvent_t event : events_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

Status CudaRuntime::Enter() {
  return Checked(cudaSetDevice(properties_.index), "cudaSetDevice");
}

Status CudaRuntime::NoMemory(int64_t size_bytes) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return Status(StatusCode::kResourceExhausted,
                NameOf(properties_.index) + ": " + std::to_string(size_bytes) +
                    " bytes were asked for, " + std::to_string(free) + " of " +
                    std::to_string(properties_.memory_bytes) +
                    " bytes of device memory are free");
}

Status CudaRuntime::Allocate(int64_t size_bytes, void** out) {
  if (Status status = NotRecording("allocation"); !status.ok()) return status;
  if (size_bytes > properties_.memory_bytes) return NoMemory(size_bytes);
  const auto bytes = static_cast<size_t>(size_bytes);
  cudaError_t error = cudaMallocFromPoolAsync(out, bytes, pool_, stream_);
  if (error == cudaErrorMemoryAllocation) {
    // Not an error of the device: the pool may hold blocks that do not fit.
    cudaGetLastError();
    if (Status status = Synchronize(); !status.ok()) return status;
    cudaMemPoolTrimTo(pool_, 0);
    error = cudaMallocFromPoolAsync(out, bytes, pool_, stream_);
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return NoMemory(size_bytes);
  }
  return Checked(error, "cudaMallocFromPoolAsync");
}

void CudaRuntime::Free(void* data) { cudaFreeAsync(data, stream_); }

Status CudaRuntime::AllocatePinned(int64_t size_bytes, void** out) {
  if (Status status = NotRecording("allocation"); !status.ok()) return status;
  const cudaError_t error =
      cudaHostAlloc(out, static_cast<size_t>(size_bytes), cudaHostAllocDefault);
  if (error != cudaErrorMemoryAllocation) {
    return Checked(error, "cudaHostAlloc");
  }
  cudaGetLastError();
  return Status(StatusCode::kResourceExhausted,
                NameOf(properties_.index) + ": " + std::to_string(size_bytes) +
                    " bytes of pinned host memory were asked for and are not "
                    "to be had");
}

void CudaRuntime::FreePinned(void* data) { cudaFreeHost(data); }

Status CudaRuntime::CopyToDevice(const void* pinned, void* device,
                                 int64_t size_bytes) {
  if (Status status = NotRecording("copy_to_device"); !status.ok()) {
    return status;
  }
  return Checked(
      cudaMemcpyAsync(device, pinned, static_cast<size_t>(size_bytes),
                      cudaMemcpyHostToDevice, stream_),
      "copy to the device");
}

Status CudaRuntime::CopyToHost(const void* device, void* pinned,
                               int64_t size_bytes) {
  if (Status status = NotRecording("copy_to_host"); !status.ok()) return status;
  return Checked(
      cudaMemcpyAsync(pinned, device, static_cast<size_t>(size_bytes),
                      cudaMemcpyDeviceToHost, stream_),
      "copy to the host");
}

Status CudaRuntime::CopyOnDevice(const void* from, void* to,
                                 int64_t size_bytes) {
  return Checked(cudaMemcpyAsync(to, from, static_cast<size_t>(size_bytes),
                                 cudaMemcpyDeviceToDevice, stream_),
                 "copy on the device");
}

Status CudaRuntime::Zero(void* device, int64_t size_bytes) {
  return Checked(
      cudaMemsetAsync(device, 0, static_cast<size_t>(size_bytes), stream_),
      "zero");
}

Status CudaRuntime::Record(int event) {
  if (Status status = NotRecording("a mark"); !status.ok()) return status;
  return Checked(cudaEventRecord(events_[event], stream_), "cudaEventRecord");
}

Status CudaRuntime::Wait(int event) {
  if (Status status = NotRecording("a wait"); !status.ok()) return status;
  return Checked(cudaEventSynchronize(events_[event]), "wait for the device");
}

Status CudaRuntime::Synchronize() {
  if (Status status = NotRecording("a wait"); !status.ok()) return status;
  return Checked(cudaStreamSynchronize(stream_), "wait for the device");
}

// What other threads do meanwhile, with devices of their own, is their matter.
Status CudaRuntime::BeginRecording() {
  Status status =
      Checked(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
              "cudaStreamBeginCapture");
  recording_ = status.ok();
  return status;
}

Status CudaRuntime::EndRecording(Graph* graph) {
  recording_ = false;
  cudaGraph_t recorded = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream_, &recorded);
  if (graph == nullptr) {
    // What ended it is known; that it is invalid is no news.
    if (error != cudaSuccess) cudaGetLastError();
    error = cudaSuccess;
  }
  Status status = Checked(error, "cudaStreamEndCapture");
  if (status.ok() && graph != nullptr) {
    status = Checked(cudaGraphInstantiateWithFlags(graph, recorded, 0),
                     "cudaGraphInstantiateWithFlags");
  }
  if (!status.ok()) *graph = nullptr;
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  return status;
}

Status CudaRuntime::Replay(Graph graph) {
  return Checked(cudaGraphLaunch(graph, stream_), "cudaGraphLaunch");
}

// An error that stays is returned by this wait, too.
Status CudaRuntime::Recover() {
  cudaGetLastError();
  return Synchronize();
}

void CudaRuntime::Drop(Graph graph) {
  // Best effort: an error shows in the next call.
  cudaStreamSynchronize(stream_);
  cudaGraphExecDestroy(graph);
}

}  // namespace sinklora::kernels::cuda
