// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/nccl_library.h"

namespace sinklora::kernels::cuda {
namespace {

class AbsentLibrary final : public CommunicatorLibrary {
 public:
  Status MakeId(CollectiveId*) override { return Refused(); }
  Status Join(const JoinCollectiveParams&, int64_t, Runtime*,
              std::unique_ptr<Communicator>*) override {
    return Refused();
  }

 private:
  static Status Refused() {
    return Status(StatusCode::kUnavailable,
                  "collective: cuda: several GPUs need NCCL, and this build "
                  "found no nccl.h");
  }
};

}  // namespace

std::unique_ptr<CommunicatorLibrary> OpenNccl() {
  return std::make_unique<AbsentLibrary>();
}

}  // namespace sinklora::kernels::cuda
