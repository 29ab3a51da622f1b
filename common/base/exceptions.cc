// SPDX-License-Identifier: Apache-2.0
#include "common/base/exceptions.h"

#include <exception>
#include <new>

#include "common/base/status.h"

namespace sinklora {

absl::Status StatusOfException(std::string* what) {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    *what = "out of memory";
    return MakeError(absl::StatusCode::kResourceExhausted, "out of memory",
                     {"OUT_OF_MEMORY", {}});
  } catch (const std::exception& error) {
    *what = std::string("exception: ") + error.what();
  } catch (...) {
    *what = "exception of unknown type";
  }
  return absl::InternalError("internal error");
}

}  // namespace sinklora
