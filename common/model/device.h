// Opens the device that a part of a process computes on, and says which one it
// took: a log line, and the metric
//   sinklora_compute_device_info{part, device, cuda}: always 1
// with cuda "used", "not_asked" (another device was named) or "unavailable"
// (the log line says why; the CPU was taken in its place).
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_DEVICE_H_
#define SINKLORA_COMMON_MODEL_DEVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics/metrics.h"
#include "kernels/backend.h"

namespace sinklora {

// `part`: who computes, e.g. "inference". `device` and the errors: as
// kernels::OpenBackend.
absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenDevice(
    const std::string& part, const std::string& device,
    const kernels::BackendOptions& options, MetricsRegistry* metrics);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_DEVICE_H_
