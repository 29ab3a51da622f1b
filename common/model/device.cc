// SPDX-License-Identifier: Apache-2.0
#include "common/model/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/model/device_group.h"

namespace sinklora {
namespace {

constexpr char kAllGpus[] = "cuda:all";

absl::Status BadList(const std::string& devices, const std::string& why) {
  return absl::InvalidArgumentError(
      fmt::format("device is \"{}\": {}", devices, why));
}

// "cuda:1" of "cuda:01" and the like, so that the same GPU has one name.
absl::StatusOr<std::string> GpuName(const std::string& devices,
                                    std::string_view item) {
  constexpr std::string_view kPrefix = "cuda:";
  int index = 0;
  if (item.starts_with(kPrefix)) {
    const std::string_view digits = item.substr(kPrefix.size());
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc() && end == digits.data() + digits.size() &&
        index >= 0) {
      return fmt::format("cuda:{}", index);
    }
  }
  return BadList(devices, fmt::format("\"{}\" cannot be in a list, each must "
                                      "be cuda:N with N a number from 0 on",
                                      item));
}

absl::StatusOr<std::vector<std::string>> ParseList(const std::string& devices) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= devices.size();) {
    const size_t end = std::min(devices.find(',', begin), devices.size());
    SL_ASSIGN_OR_RETURN(
        std::string name,
        GpuName(devices, std::string_view(devices).substr(begin, end - begin)));
    if (std::find(out.begin(), out.end(), name) != out.end()) {
      return BadList(devices, fmt::format("{} is named twice", name));
    }
    out.push_back(std::move(name));
    begin = end + 1;
  }
  return out;
}

}  // namespace

bool IsDeviceList(const std::string& devices) {
  return devices == kAllGpus || devices.find(',') != std::string::npos;
}

absl::StatusOr<std::vector<std::string>> ParseDevices(
    const std::string& devices,
    const std::function<kernels::Status(int*)>& count_cuda) {
  if (!IsDeviceList(devices)) return std::vector<std::string>{devices};
  if (devices != kAllGpus) return ParseList(devices);
  int count = 0;
  SL_RETURN_IF_ERROR(
      Annotate(ToAbsl(count_cuda(&count)), fmt::format("device {}", kAllGpus)));
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) out.push_back(fmt::format("cuda:{}", i));
  return out;
}

absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenDevice(
    const std::string& part, const std::string& device,
    const kernels::BackendOptions& options, MetricsRegistry* metrics) {
  if (IsDeviceList(device)) {
    return BadList(device, fmt::format("{} computes on one device, must be one "
                                       "of auto, cpu, cuda:N, reference; "
                                       "several are for training alone",
                                       part));
  }
  std::unique_ptr<kernels::Backend> backend;
  std::string why_not_cuda;
  SL_RETURN_IF_KERNEL_ERROR(
      kernels::OpenBackend(device, options, &backend, &why_not_cuda));
  const std::string name(backend->name());
  const bool gpu = name.starts_with("cuda");
  const char* cuda = "not_asked";
  if (gpu) {
    cuda = "used";
  } else if (!why_not_cuda.empty()) {
    cuda = "unavailable";
  }
  LogInfo("{} computes on {}{}", part, backend->description(),
          why_not_cuda.empty() ? "" : "; not on CUDA: " + why_not_cuda);
  metrics
      ->GetGauge("sinklora_compute_device_info",
                 "Device that a part of this process computes on; always 1.",
                 {{"part", part},
                  {"device", name},
                  {"cuda", cuda},
                  {"cuda_graphs", gpu ? options.cuda_graphs : "none"}})
      ->Set(1);
  return backend;
}

absl::StatusOr<std::vector<std::unique_ptr<kernels::Backend>>> OpenDevices(
    const std::string& part, const std::string& devices,
    const kernels::BackendOptions& options, MetricsRegistry* metrics) {
  SL_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                      ParseDevices(devices));
  std::vector<std::unique_ptr<kernels::Backend>> out;
  std::vector<kernels::Backend*> group;
  for (const std::string& name : names) {
    SL_ASSIGN_OR_RETURN(auto backend, OpenDevice(part, name, options, metrics));
    group.push_back(backend.get());
    out.push_back(std::move(backend));
  }
  if (out.size() > 1) {
    SL_RETURN_IF_ERROR(DeviceGroup(group, /*chunk_elements=*/1).Check());
  }
  return out;
}

}  // namespace sinklora
