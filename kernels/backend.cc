// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include <sched.h>

#include <exception>
#include <thread>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cuda/plugin_loader.h"
#include "kernels/reference/reference_backend.h"

namespace sinklora::kernels {
namespace {

constexpr int kMaxThreads = 1024;

// Cores this process may run on, which in a container is fewer than the machine
// has.
int AvailableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) {
    return CPU_COUNT(&cores);
  }
  const unsigned all = std::thread::hardware_concurrency();
  return all == 0 ? 1 : static_cast<int>(all);
}

Status OpenCpu(const BackendOptions& options, std::unique_ptr<Backend>* out) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return InvalidArgument(
        "open_backend: num_threads is " + std::to_string(options.num_threads) +
        ", must be in [0, " + std::to_string(kMaxThreads) + "]");
  }
  if (Status status = cpu::FixCpuIsa(options.cpu_isa); !status.ok()) {
    return status;
  }
  const int threads =
      options.num_threads == 0 ? AvailableCores() : options.num_threads;
  try {
    *out = std::make_unique<CpuBackend>(threads);
  } catch (const std::exception& e) {
    return Status(StatusCode::kResourceExhausted,
                  std::string("open_backend: cpu: ") + e.what());
  }
  return OkStatus();
}

Status CheckGraphs(const BackendOptions& options) {
  if (options.cuda_graphs == "auto" || options.cuda_graphs == "off") {
    return OkStatus();
  }
  return InvalidArgument("open_backend: cuda_graphs is \"" +
                         options.cuda_graphs + "\", must be one of auto, off");
}

// Only the CPU has a choice of instruction sets.
Status CheckNoIsa(std::string_view device, const BackendOptions& options) {
  if (options.cpu_isa == "auto") return OkStatus();
  return InvalidArgument("open_backend: cpu_isa is \"" + options.cpu_isa +
                         "\", must be auto for device " + std::string(device));
}

Status OpenNamedCuda(std::string_view device, const BackendOptions& options,
                     std::unique_ptr<Backend>* out) {
  int index = 0;
  Status status = cuda::ParseCudaName(device, &index);
  if (status.ok()) status = CheckNoIsa(device, options);
  return status.ok() ? cuda::OpenCuda(index, options, out) : status;
}

// The first CUDA device, or else the CPU and why not CUDA. A chosen instruction
// set asks for the CPU. A device that is there and fails is an error, so that
// nobody computes on the CPU unawares.
Status OpenFastest(const BackendOptions& options, std::unique_ptr<Backend>* out,
                   std::string* why_not_cuda) {
  if (options.cpu_isa != "auto") {
    *why_not_cuda = "cpu_isa is " + options.cpu_isa;
    return OpenCpu(options, out);
  }
  Status status = cuda::OpenCuda(0, options, out);
  if (status.code() != StatusCode::kUnavailable) return status;
  *why_not_cuda = status.message();
  return OpenCpu(options, out);
}

}  // namespace

Status OpenBackend(std::string_view device, const BackendOptions& options,
                   std::unique_ptr<Backend>* out, std::string* why_not_cuda) {
  std::string reason;
  Status status = CheckGraphs(options);
  if (!status.ok()) return status;
  if (device == "auto") {
    status = OpenFastest(options, out, &reason);
  } else if (device == "cpu") {
    status = OpenCpu(options, out);
  } else if (device == "reference") {
    status = CheckNoIsa(device, options);
    if (status.ok()) *out = std::make_unique<ReferenceBackend>();
  } else if (cuda::IsCudaName(device)) {
    status = OpenNamedCuda(device, options, out);
  } else {
    status =
        InvalidArgument("open_backend: device is \"" + std::string(device) +
                        "\", must be one of auto, cpu, cuda:N, reference");
  }
  if (why_not_cuda != nullptr) *why_not_cuda = reason;
  return status;
}

Status CountCudaDevices(int* out) { return cuda::CountDevices(out); }

}  // namespace sinklora::kernels
