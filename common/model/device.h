// Opens the devices that a part of a process computes on, and says which ones
// it took: a log line, and the metric
//   sinklora_compute_device_info{part, device, cuda, cuda_graphs}: always 1
// with cuda "used", "not_asked" (another device was named) or "unavailable"
// (the log line says why; the CPU was taken in its place), and cuda_graphs
// "auto" or "off" as the options have it for a GPU, "none" for other devices.
// One of each a device.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_DEVICE_H_
#define SINKLORA_COMMON_MODEL_DEVICE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/metrics/metrics.h"
#include "kernels/backend.h"

namespace sinklora {

// `part`: who computes, e.g. "inference". `device` and the errors: as
// kernels::OpenBackend. A list of devices is kInvalidArgument.
absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenDevice(
    const std::string& part, const std::string& device,
    const kernels::BackendOptions& options, MetricsRegistry* metrics);

// Names of the devices that `devices` asks for, >= 1: one name as of
// kernels::OpenBackend, a list of GPUs "cuda:0,cuda:1", or "cuda:all" for every
// GPU of the machine, of which `count_cuda` tells the number. kInvalidArgument
// naming what is wrong: a GPU that is named twice, anything but cuda:N in a
// list.
absl::StatusOr<std::vector<std::string>> ParseDevices(
    const std::string& devices,
    const std::function<kernels::Status(int*)>& count_cuda =
        kernels::CountCudaDevices);
// Whether `devices` asks for more than one, or for what may be more.
bool IsDeviceList(const std::string& devices);

// Opens all of ParseDevices(), in its order, and sees whether they can work
// together. Errors as OpenDevice and DeviceGroup::Check.
absl::StatusOr<std::vector<std::unique_ptr<kernels::Backend>>> OpenDevices(
    const std::string& part, const std::string& devices,
    const kernels::BackendOptions& options, MetricsRegistry* metrics);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_DEVICE_H_
