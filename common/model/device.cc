// SPDX-License-Identifier: Apache-2.0
#include "common/model/device.h"

#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora {

absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenDevice(
    const std::string& part, const std::string& device,
    const kernels::BackendOptions& options, MetricsRegistry* metrics) {
  std::unique_ptr<kernels::Backend> backend;
  std::string why_not_cuda;
  SL_RETURN_IF_KERNEL_ERROR(
      kernels::OpenBackend(device, options, &backend, &why_not_cuda));
  const std::string name(backend->name());
  const char* cuda = "not_asked";
  if (name.starts_with("cuda")) {
    cuda = "used";
  } else if (!why_not_cuda.empty()) {
    cuda = "unavailable";
  }
  LogInfo("{} computes on {}{}", part, backend->description(),
          why_not_cuda.empty() ? "" : "; not on CUDA: " + why_not_cuda);
  metrics
      ->GetGauge("sinklora_compute_device_info",
                 "Device that a part of this process computes on; always 1.",
                 {{"part", part}, {"device", name}, {"cuda", cuda}})
      ->Set(1);
  return backend;
}

}  // namespace sinklora
