// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/runtime.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/testing/cuda_emulation/engine.h"

using Work = std::function<cudaError_t()>;
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUstream_st {
  bool captures = false;
  bool spoilt = false;  // the capture
  CUgraph_st captured;
};

namespace sinklora::emulation {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kAlignment = 256;  // as cudaMalloc
constexpr uint8_t kPoison = 0xFF;
constexpr uint8_t kCanary = 0xA5;

class Device {
 public:
  Device();
  cudaError_t Allocate(void** pointer, size_t bytes);
  cudaError_t Free(void* pointer);
  // Whether [pointer, pointer + bytes) lies in one allocation.
  bool Holds(const void* pointer, size_t bytes) const;
  bool CanariesUntouched() const;
  size_t free_bytes() const { return kDeviceBytes - used_; }
  void Open();
  void Close();
  cudaError_t Fail(cudaError_t error, const std::string& what);

  cudaError_t sticky = cudaSuccess;
  std::string message;

 private:
  static size_t Span(size_t bytes) {
    return (bytes + 2 * kAlignment - 1) / kAlignment * kAlignment;
  }
  bool CanaryUntouched(uint8_t* at, size_t bytes) const;
  // Starts over. REQUIRES: nothing is allocated, memory is closed.
  void Forget();

  uint8_t* memory_ = nullptr;
  size_t top_ = 0;  // what lies above was never used
  size_t used_ = 0;
  std::map<uint8_t*, size_t> live_;       // bytes asked for
  std::multimap<size_t, uint8_t*> free_;  // by span
  int open_ = 0;
};

Device& Get(int index) {
  static Device devices[kDevices];
  return devices[index];
}

// Of the calling thread.
thread_local int current_device = 0;
thread_local cudaStream_t capturing = nullptr;
Device& Current() { return Get(current_device); }

// Calls of each kind until one fails.
std::array<std::atomic<int>, 5> calls_to_failure{-1, -1, -1, -1, -1};
bool Fails(Call call) {
  std::atomic<int>& left = calls_to_failure[static_cast<size_t>(call)];
  return left >= 0 && left-- == 0;
}

// An error where the thread captures: the call does not belong there.
cudaError_t SpoilCapture() {
  if (capturing == nullptr) return cudaSuccess;
  capturing->spoilt = true;
  return cudaErrorStreamCaptureUnsupported;
}

// One call of the process at a time, on any device.
std::recursive_mutex& OneAtATime() {
  static std::recursive_mutex mutex;
  return mutex;
}

Device::Device() {
  void* at = mmap(nullptr, kDeviceBytes, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("emulated device memory");
    std::abort();
  }
  memory_ = static_cast<uint8_t*>(at);
}

void Device::Open() {
  if (open_++ == 0 && top_ > 0) {
    mprotect(memory_, top_, PROT_READ | PROT_WRITE);
  }
}

void Device::Close() {
  if (--open_ == 0 && top_ > 0) mprotect(memory_, top_, PROT_NONE);
}

cudaError_t Device::Allocate(void** pointer, size_t bytes) {
  const size_t span = Span(bytes);
  uint8_t* at = nullptr;
  const auto reuse = free_.find(span);
  if (reuse != free_.end()) {
    at = reuse->second;
    free_.erase(reuse);
  } else if (span <= kDeviceBytes - top_) {
    at = memory_ + top_;
    const size_t pages = (top_ + span + kPageBytes - 1) / kPageBytes;
    top_ = std::min(kDeviceBytes, pages * kPageBytes);
    if (open_ > 0) mprotect(memory_, top_, PROT_READ | PROT_WRITE);
  } else {
    return cudaErrorMemoryAllocation;
  }
  used_ += span;
  live_[at] = bytes;
  Open();
  std::memset(at, kPoison, bytes);
  std::memset(at + bytes, kCanary, span - bytes);
  Close();
  *pointer = at;
  return cudaSuccess;
}

bool Device::CanaryUntouched(uint8_t* at, size_t bytes) const {
  return std::all_of(at + bytes, at + Span(bytes),
                     [](uint8_t b) { return b == kCanary; });
}

bool Device::CanariesUntouched() const {
  return std::all_of(live_.begin(), live_.end(), [&](const auto& allocation) {
    return CanaryUntouched(allocation.first, allocation.second);
  });
}

// Opening and closing costs time for every page that was ever touched, which a
// program of many tests would feel.
void Device::Forget() {
  madvise(memory_, top_, MADV_DONTNEED);
  free_.clear();
  top_ = 0;
}

cudaError_t Device::Free(void* pointer) {
  const auto found = live_.find(static_cast<uint8_t*>(pointer));
  if (found == live_.end()) return cudaErrorInvalidValue;
  const auto [at, bytes] = *found;
  Open();
  const bool intact = CanaryUntouched(at, bytes);
  std::memset(at, kPoison, bytes);  // reads after the end show
  Close();
  used_ -= Span(bytes);
  free_.emplace(Span(bytes), at);
  live_.erase(found);
  if (live_.empty() && open_ == 0) Forget();
  if (intact) return cudaSuccess;
  return Fail(cudaErrorIllegalAddress, "a write behind an allocation");
}

bool Device::Holds(const void* pointer, size_t bytes) const {
  auto* at = static_cast<uint8_t*>(const_cast<void*>(pointer));
  auto after = live_.upper_bound(at);
  if (after == live_.begin()) return false;
  --after;
  return at + bytes <= after->first + after->second;
}

cudaError_t Device::Fail(cudaError_t error, const std::string& what) {
  sticky = error;
  message = what;
  return error;
}

// The thread's device for one call: nobody else's turn, and memory accessible.
class Turn {
 public:
  explicit Turn(bool touch_memory = false)
      : lock_(OneAtATime()), device_(Current()), touch_memory_(touch_memory) {
    if (touch_memory_) device_.Open();
  }
  ~Turn() {
    if (touch_memory_) device_.Close();
  }
  Device* operator->() const { return &device_; }
  cudaError_t sticky() const { return device_.sticky; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  Device& device_;
  const bool touch_memory_;
};

}  // namespace

cudaError_t LaunchKernel(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                         cudaStream_t stream,
                         const std::function<void()>& kernel) {
  {
    const Turn device;
    if (device.sticky() != cudaSuccess) return device.sticky();
  }
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxBlockThreads || threads % kLanes != 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      dynamic_shared_bytes < 0 || dynamic_shared_bytes > kMaxSharedBytes ||
      Fails(Call::kLaunch)) {
    return cudaErrorInvalidConfiguration;
  }
  return Queue(stream, [=] {
    const Turn device(true);
    if (device.sticky() != cudaSuccess) return device.sticky();
    const std::string error =
        RunGrid(grid, block, dynamic_shared_bytes, kernel);
    if (error.empty()) return cudaSuccess;
    return device->Fail(cudaErrorLaunchFailure, error);
  });
}

cudaError_t Queue(cudaStream_t stream, Work work) {
  if (stream == nullptr || !stream->captures) return work();
  stream->captured.work.push_back(std::move(work));
  return cudaSuccess;
}

void Fail(Call call, int calls) {
  calls_to_failure[static_cast<size_t>(call)] = calls;
}

void ResetDevice() {
  const Turn device;
  device->sticky = cudaSuccess;
  device->message.clear();
}

HostAccess::HostAccess() {
  OneAtATime().lock();
  Current().Open();
}
HostAccess::~HostAccess() {
  Current().Close();
  OneAtATime().unlock();
}

}  // namespace sinklora::emulation

using sinklora::emulation::Call;
using sinklora::emulation::capturing;
using sinklora::emulation::Fails;
using sinklora::emulation::SpoilCapture;
using sinklora::emulation::Turn;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = sinklora::emulation::kDevices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= sinklora::emulation::kDevices) {
    return cudaErrorInvalidDevice;
  }
  sinklora::emulation::current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int device) {
  if (device < 0 || device >= sinklora::emulation::kDevices) {
    return cudaErrorInvalidDevice;
  }
  const auto shared = static_cast<int>(sinklora::emulation::kMaxSharedBytes);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = sinklora::emulation::kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = shared + 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = shared;
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Turn device;
  *free = device->free_bytes();
  *total = sinklora::emulation::kDeviceBytes;
  return device.sticky();
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const cudaError_t error = SpoilCapture(); error != cudaSuccess) {
    return error;
  }
  const Turn device;
  if (device.sticky() != cudaSuccess) return device.sticky();
  *pointer = nullptr;
  return bytes == 0 ? cudaSuccess : device->Allocate(pointer, bytes);
}

cudaError_t cudaFree(void* pointer) {
  if (const cudaError_t error = SpoilCapture(); error != cudaSuccess) {
    return error;
  }
  const Turn device;
  if (pointer == nullptr) return device.sticky();
  const cudaError_t error = device->Free(pointer);
  return device.sticky() != cudaSuccess ? device.sticky() : error;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  return sinklora::emulation::Queue(stream, [=] {
    const Turn device(true);
    if (device.sticky() != cudaSuccess) return device.sticky();
    if (bytes == 0) return cudaSuccess;
    const bool to_device =
        kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device =
        kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (device->Holds(to, bytes) != to_device ||
        device->Holds(from, bytes) != from_device) {
      return cudaErrorInvalidValue;
    }
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes,
                            cudaStream_t stream) {
  return sinklora::emulation::Queue(stream, [=] {
    const Turn device(true);
    if (device.sticky() != cudaSuccess) return device.sticky();
    if (bytes == 0) return cudaSuccess;
    if (!device->Holds(pointer, bytes)) return cudaErrorInvalidValue;
    std::memset(pointer, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  if (const cudaError_t error = SpoilCapture(); error != cudaSuccess) {
    return error;
  }
  const Turn device(true);
  if (device.sticky() == cudaSuccess && !device->CanariesUntouched()) {
    device->Fail(cudaErrorIllegalAddress, "a write behind an allocation");
  }
  return device.sticky();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Turn device;
  if (device.sticky() != cudaSuccess) return device.sticky();
  if (const cudaError_t error = SpoilCapture(); error != cudaSuccess) {
    return error;
  }
  if (Fails(Call::kBeginCapture)) return cudaErrorStreamCaptureUnsupported;
  stream->captures = true;
  stream->spoilt = false;
  stream->captured.work.clear();
  capturing = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (capturing != stream) return cudaErrorInvalidValue;
  capturing = nullptr;
  stream->captures = false;
  if (stream->spoilt || Fails(Call::kEndCapture)) {
    return cudaErrorStreamCaptureInvalidated;
  }
  *graph = new CUgraph_st(std::move(stream->captured));
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec,
                                          cudaGraph_t graph,
                                          unsigned long long) {
  if (Fails(Call::kInstantiate)) return cudaErrorMemoryAllocation;
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  if (Fails(Call::kGraphLaunch)) return cudaErrorMemoryAllocation;
  for (const Work& work : exec->work) {
    if (const cudaError_t error = work(); error != cudaSuccess) return error;
  }
  return Turn().sticky();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return Turn().sticky(); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
  }
  return "unknown error";
}

const char* cudaGetErrorString(cudaError_t error) {
  const Turn device;
  if (error == device.sticky() && !device->message.empty()) {
    return device->message.c_str();
  }
  return cudaGetErrorName(error);
}
