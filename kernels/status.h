// Result of a kernel-layer call.
//
// `kernels` builds on machines that have nothing but a compiler, so it does not
// use absl::Status. Layers above convert with ToAbsl() of common/base/status.h.
// Value type, thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_STATUS_H_
#define SINKLORA_KERNELS_STATUS_H_

#include <string>
#include <utility>

namespace sinklora::kernels {

enum class StatusCode {
  kOk,
  kInvalidArgument,  // a shape, stride, dtype or value the op's contract
                     // forbids
  kUnimplemented,    // a legal request this backend does not have a kernel for
  kResourceExhausted,  // allocation failed
  kUnavailable,        // the device is absent
  kInternal,           // the device or a library failed
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message)
      : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
inline Status InvalidArgument(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_STATUS_H_
