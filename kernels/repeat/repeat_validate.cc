// SPDX-License-Identifier: Apache-2.0
#include "kernels/repeat/repeat_validate.h"

#include "kernels/cache_decode/cache_decode_validate.h"

namespace sinklora::kernels {

Status Validate(const RepeatParams& p) {
  if (p.run == nullptr) {
    return InvalidArgument("repeat: run is empty, must be a function");
  }
  for (const CacheDecodeParams& decode : p.decodes) {
    Status status = Validate(decode, Values::kOnDevice);
    if (!status.ok()) return status;
  }
  return OkStatus();
}

}  // namespace sinklora::kernels
