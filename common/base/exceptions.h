// The barrier at which exceptions of libraries end: ours use absl::Status, and
// none may leave a thread's function.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_EXCEPTIONS_H_
#define SINKLORA_COMMON_BASE_EXCEPTIONS_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora {

// For a catch block: what the exception being handled means to a caller,
// kResourceExhausted (reason OUT_OF_MEMORY) for std::bad_alloc, else kInternal
// without details, which may name things the caller must not see. `*what`
// gets them, never empty.
absl::Status StatusOfException(std::string* what);

// The status of `function`, or that of the exception it threw; `*what` is empty
// unless it threw.
template <typename Function>
absl::Status CatchExceptions(const Function& function, std::string* what) {
  what->clear();
  try {
    return function();
  } catch (...) {
    return StatusOfException(what);
  }
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_EXCEPTIONS_H_
