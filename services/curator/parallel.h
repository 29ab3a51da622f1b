// Independent tasks on a few threads, for the length of one call.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_PARALLEL_H_
#define SINKLORA_SERVICES_CURATOR_PARALLEL_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace sinklora::curator {

// Runs task(0) .. task(count - 1) on up to `threads` threads, the caller's
// among them, and returns when all that started have ended. After a failure no
// further task starts; the failure of the lowest index that ran is returned, so
// which error is reported depends on the threads only when several tasks fail.
// Tasks must not write what other tasks touch. REQUIRES: threads >= 1.
absl::Status ParallelFor(int threads, int64_t count,
                         const std::function<absl::Status(int64_t)>& task);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_PARALLEL_H_
