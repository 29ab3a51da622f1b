// SPDX-License-Identifier: Apache-2.0
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_ops.h"

namespace sinklora::kernels::cuda {
namespace {

// Undoes on every way out what a call leaves for its ops.
class Call {
 public:
  explicit Call(CudaContext* context) : context_(context) {}
  ~Call() {
    context_->decodes().Forget();
    context_->FreePutOff();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  CudaContext* const context_;
};

}  // namespace

Status RepeatCuda(const RepeatParams& p, CudaContext& context) {
  AnnouncedDecodes& decodes = context.decodes();
  if (decodes.announced()) {
    return InvalidArgument("repeat: one within another, must not be");
  }
  const Call call(&context);
  Status status = decodes.Announce(p.decodes, context);
  if (status.ok()) status = context.scratch().Settle();
  if (!status.ok()) return status;
  std::vector<uint64_t> key(p.key.begin(), p.key.end());
  decodes.AppendTo(&key);
  bool failed = false;
  status = context.recorder().Run(
      std::move(key), context.scratch().generation() + decodes.generation(),
      [&] {
        decodes.Rewind();
        failed = !p.run();
        return failed ? InvalidArgument("repeat: an op failed")
                      : decodes.CheckAllTaken();
      });
  // An op's error is the caller's; that the device is lost may be news.
  return failed && status.code() != StatusCode::kInternal ? OkStatus() : status;
}

}  // namespace sinklora::kernels::cuda
