// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/plugin_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <charconv>
#include <climits>
#include <cstdlib>
#include <string>

#include "kernels/cuda/plugin.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr std::string_view kPrefix = "cuda";
constexpr char kFileVariable[] = "SINKLORA_CUDA_PLUGIN";

Status Unavailable(const std::string& what) {
  return Status(StatusCode::kUnavailable, "open_backend: cuda: " + what);
}

// Of the running program, without its name; empty where the system does not
// tell.
std::string ProgramFolder() {
  char path[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
  if (n <= 0 || n == sizeof(path)) return "";
  const std::string program(path, static_cast<size_t>(n));
  return program.substr(0, program.rfind('/'));
}

// The file to load: the named one, or the first that exists of the usual ones.
Status FindPlugin(std::string* file) {
  if (const char* named = std::getenv(kFileVariable); named != nullptr) {
    *file = named;
    return OkStatus();
  }
  const std::string folder = ProgramFolder();
  for (const char* place : {"/", "/../lib/"}) {
    *file = folder + place + kCudaPluginFile;
    if (access(file->c_str(), R_OK) == 0) return OkStatus();
  }
  return Unavailable(std::string(kCudaPluginFile) + " is neither in " + folder +
                     " nor in its ../lib: this build has no CUDA");
}

struct Plugin {
  Status status;
  CudaPluginOpenFunction* open = nullptr;
  CudaPluginCountFunction* count = nullptr;
};

Plugin Load() {
  Plugin plugin;
  std::string file;
  plugin.status = FindPlugin(&file);
  if (!plugin.status.ok()) return plugin;
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    plugin.status = Unavailable(dlerror());
    return plugin;
  }
  const auto build = reinterpret_cast<CudaPluginBuildFunction*>(
      dlsym(library, kCudaPluginBuildSymbol));
  const std::string_view built = build == nullptr ? "unknown" : build();
  plugin.open = reinterpret_cast<CudaPluginOpenFunction*>(
      dlsym(library, kCudaPluginOpenSymbol));
  plugin.count = reinterpret_cast<CudaPluginCountFunction*>(
      dlsym(library, kCudaPluginCountSymbol));
  if (built != kCudaPluginBuild || plugin.open == nullptr ||
      plugin.count == nullptr) {
    plugin.status =
        Status(StatusCode::kInternal,
               "open_backend: " + file + " is of build " + std::string(built) +
                   ", must be of build " + kCudaPluginBuild);
  }
  return plugin;
}

const Plugin& ThePlugin() {
  static const Plugin plugin = Load();
  return plugin;
}

}  // namespace

bool IsCudaName(std::string_view device) {
  return device == kPrefix || device.starts_with("cuda:");
}

Status ParseCudaName(std::string_view device, int* index) {
  *index = 0;
  if (device == kPrefix) return OkStatus();
  const std::string_view digits = device.substr(kPrefix.size() + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), *index);
  if (error == std::errc() && end == digits.data() + digits.size() &&
      *index >= 0) {
    return OkStatus();
  }
  return InvalidArgument("open_backend: device is \"" + std::string(device) +
                         "\", must be cuda:N with N a number from 0 on");
}

Status OpenCuda(int index, const BackendOptions& options,
                std::unique_ptr<Backend>* out) {
  const Plugin& plugin = ThePlugin();
  if (!plugin.status.ok()) return plugin.status;
  Status status;
  plugin.open(index, options, out, &status);
  return status;
}

Status CountDevices(int* out) {
  const Plugin& plugin = ThePlugin();
  if (!plugin.status.ok()) return plugin.status;
  Status status;
  plugin.count(out, &status);
  return status;
}

}  // namespace sinklora::kernels::cuda
