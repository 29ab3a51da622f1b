// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include <sched.h>

#include <exception>
#include <thread>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_isa.h"
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

}  // namespace

Status OpenBackend(std::string_view device, const BackendOptions& options,
                   std::unique_ptr<Backend>* out) {
  if (device == "cpu" || device == "auto") return OpenCpu(options, out);
  if (device == "reference") {
    if (options.cpu_isa != "auto") {
      return InvalidArgument("open_backend: cpu_isa is \"" + options.cpu_isa +
                             "\", must be auto for device reference");
    }
    *out = std::make_unique<ReferenceBackend>();
    return OkStatus();
  }
  return InvalidArgument("open_backend: device is \"" + std::string(device) +
                         "\", must be one of auto, cpu, reference");
}

}  // namespace sinklora::kernels
