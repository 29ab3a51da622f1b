// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/nccl_library.h"

#include <dlfcn.h>

#include <cstring>

#include "kernels/cuda/nccl_communicator.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr char kFile[] = "libnccl.so.2";
constexpr int kLeastVersion = 21400;  // non-blocking communicators

Status Unavailable(const std::string& what) {
  return Status(StatusCode::kUnavailable,
                "collective: cuda: several GPUs need NCCL: " + what);
}

std::string VersionText(int version) {
  return std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

struct Loaded {
  NcclFunctions functions;
  Status status;
};

// Once a process.
const Loaded& Nccl() {
  static const Loaded loaded = [] {
    Loaded l;
    l.status = l.functions.Load();
    return l;
  }();
  return loaded;
}

class NcclLibrary final : public CommunicatorLibrary {
 public:
  Status MakeId(CollectiveId* out) override {
    const Loaded& nccl = Nccl();
    if (!nccl.status.ok()) return nccl.status;
    ncclUniqueId id;
    const ncclResult_t made = nccl.functions.get_unique_id(&id);
    if (made != ncclSuccess) {
      return nccl.functions.Failed("collective: cuda", "ncclGetUniqueId", made,
                                   nullptr);
    }
    std::memcpy(out->bytes.data(), &id, sizeof(id));
    return OkStatus();
  }

  Status Join(const JoinCollectiveParams& params, int64_t memory_bytes,
              Runtime* runtime, std::unique_ptr<Communicator>* out) override {
    const Loaded& nccl = Nccl();
    if (!nccl.status.ok()) return nccl.status;
    return NcclCommunicator::Join(&nccl.functions, params, memory_bytes,
                                  runtime, out);
  }
};

}  // namespace

Status NcclFunctions::Load() {
  void* library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Unavailable(dlerror());
  std::string missing;
  const auto find = [&](const char* symbol, auto* function) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(
        dlsym(library, symbol));
    if (*function == nullptr && missing.empty()) missing = symbol;
  };
  find("ncclGetVersion", &get_version);
  find("ncclGetUniqueId", &get_unique_id);
  find("ncclCommInitRankConfig", &comm_init);
  find("ncclCommAbort", &comm_abort);
  find("ncclCommGetAsyncError", &get_async_error);
  find("ncclGetErrorString", &get_error_string);
  find("ncclGetLastError", &get_last_error);
  find("ncclGroupStart", &group_start);
  find("ncclGroupEnd", &group_end);
  find("ncclSend", &send);
  find("ncclRecv", &receive);
  int version = 0;
  if (get_version != nullptr) get_version(&version);
  name = "NCCL " + VersionText(version);
  if (version < kLeastVersion) {
    return Unavailable(std::string(kFile) + " is " + name +
                       ", must be at least " + VersionText(kLeastVersion));
  }
  if (missing.empty()) return OkStatus();
  return Unavailable(std::string(kFile) + " has no " + missing);
}

Status NcclFunctions::Failed(const std::string& where, const char* call,
                             ncclResult_t result, ncclComm_t comm) const {
  std::string message =
      where + ": " + name + ": " + call + ": " + get_error_string(result);
  const char* last = get_last_error(comm);
  if (last != nullptr && *last != '\0') message.append(": ").append(last);
  return Status(StatusCode::kUnavailable, message);
}

std::unique_ptr<CommunicatorLibrary> OpenNccl() {
  return std::make_unique<NcclLibrary>();
}

}  // namespace sinklora::kernels::cuda
