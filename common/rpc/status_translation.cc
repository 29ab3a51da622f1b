// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/status_translation.h"

#include <string>
#include <utility>

#include "common/base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sinklora {
namespace {

constexpr char kDomain[] = "sinklora";
constexpr size_t kMaxMessageBytes = 1024;
// Details travel in an HTTP/2 header, and all headers of a call may have 8 KiB
// together.
constexpr size_t kMaxReasonBytes = 63;
constexpr size_t kMaxValueBytes = 256;
constexpr size_t kMaxMetadataBytes = 1536;

grpc::StatusCode ToGrpcCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return grpc::StatusCode::OK;
    case absl::StatusCode::kCancelled:
      return grpc::StatusCode::CANCELLED;
    case absl::StatusCode::kUnknown:
      return grpc::StatusCode::UNKNOWN;
    case absl::StatusCode::kInvalidArgument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case absl::StatusCode::kDeadlineExceeded:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case absl::StatusCode::kNotFound:
      return grpc::StatusCode::NOT_FOUND;
    case absl::StatusCode::kAlreadyExists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case absl::StatusCode::kPermissionDenied:
      return grpc::StatusCode::PERMISSION_DENIED;
    case absl::StatusCode::kResourceExhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case absl::StatusCode::kFailedPrecondition:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case absl::StatusCode::kAborted:
      return grpc::StatusCode::ABORTED;
    case absl::StatusCode::kOutOfRange:
      return grpc::StatusCode::OUT_OF_RANGE;
    case absl::StatusCode::kUnimplemented:
      return grpc::StatusCode::UNIMPLEMENTED;
    case absl::StatusCode::kInternal:
      return grpc::StatusCode::INTERNAL;
    case absl::StatusCode::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case absl::StatusCode::kDataLoss:
      return grpc::StatusCode::DATA_LOSS;
    case absl::StatusCode::kUnauthenticated:
      return grpc::StatusCode::UNAUTHENTICATED;
    case absl::StatusCode::
        kDoNotUseReservedForFutureExpansionUseDefaultInSwitchInstead_:
      return grpc::StatusCode::UNKNOWN;
  }
  return grpc::StatusCode::UNKNOWN;
}

absl::StatusCode ToAbslCode(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return absl::StatusCode::kOk;
    case grpc::StatusCode::CANCELLED:
      return absl::StatusCode::kCancelled;
    case grpc::StatusCode::UNKNOWN:
      return absl::StatusCode::kUnknown;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return absl::StatusCode::kInvalidArgument;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::StatusCode::kDeadlineExceeded;
    case grpc::StatusCode::NOT_FOUND:
      return absl::StatusCode::kNotFound;
    case grpc::StatusCode::ALREADY_EXISTS:
      return absl::StatusCode::kAlreadyExists;
    case grpc::StatusCode::PERMISSION_DENIED:
      return absl::StatusCode::kPermissionDenied;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return absl::StatusCode::kResourceExhausted;
    case grpc::StatusCode::FAILED_PRECONDITION:
      return absl::StatusCode::kFailedPrecondition;
    case grpc::StatusCode::ABORTED:
      return absl::StatusCode::kAborted;
    case grpc::StatusCode::OUT_OF_RANGE:
      return absl::StatusCode::kOutOfRange;
    case grpc::StatusCode::UNIMPLEMENTED:
      return absl::StatusCode::kUnimplemented;
    case grpc::StatusCode::INTERNAL:
      return absl::StatusCode::kInternal;
    case grpc::StatusCode::UNAVAILABLE:
      return absl::StatusCode::kUnavailable;
    case grpc::StatusCode::DATA_LOSS:
      return absl::StatusCode::kDataLoss;
    case grpc::StatusCode::UNAUTHENTICATED:
      return absl::StatusCode::kUnauthenticated;
    case grpc::StatusCode::DO_NOT_USE:
      return absl::StatusCode::kUnknown;
  }
  return absl::StatusCode::kUnknown;
}

// At most `limit` bytes that are valid UTF-8: messages quote what clients and
// files contain, and a proto3 string with other bytes would not be parsed by
// its receiver.
std::string Clean(const std::string& text, size_t limit) {
  std::string clean;
  size_t i = 0;
  while (i < text.size()) {
    const auto first = static_cast<unsigned char>(text[i]);
    size_t length = 1;
    if (first >= 0xf0) {
      length = 4;
    } else if (first >= 0xe0) {
      length = 3;
    } else if (first >= 0xc2) {
      length = 2;
    }
    bool valid = first < 0x80 || (first >= 0xc2 && first < 0xf5);
    valid = valid && i + length <= text.size();
    for (size_t k = 1; valid && k < length; ++k) {
      valid = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    }
    if (!valid) length = 1;
    if (clean.size() + length > limit) break;
    clean += valid ? text.substr(i, length) : "?";
    i += length;
  }
  return clean;
}

google::rpc::ErrorInfo MakeErrorInfo(const absl::Status& status) {
  const ErrorDetail detail = GetErrorDetail(status);
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  info.set_reason(detail.reason.empty()
                      ? std::string(absl::StatusCodeToString(status.code()))
                      : Clean(detail.reason, kMaxReasonBytes));
  size_t used = 0;
  for (const auto& [key, value] : detail.metadata) {
    const std::string clean_key = Clean(key, kMaxReasonBytes);
    const std::string clean_value = Clean(value, kMaxValueBytes);
    used += clean_key.size() + clean_value.size();
    if (used > kMaxMetadataBytes) break;
    (*info.mutable_metadata())[clean_key] = clean_value;
  }
  return info;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const grpc::StatusCode code = ToGrpcCode(status.code());
  google::rpc::Status details;
  details.set_code(code);
  details.set_message(Clean(std::string(status.message()), kMaxMessageBytes));
  details.add_details()->PackFrom(MakeErrorInfo(status));
  return grpc::Status(code, details.message(), details.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const absl::StatusCode code = ToAbslCode(status.error_code());
  google::rpc::Status details;
  // Errors that the transport itself makes have no details.
  if (details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      google::rpc::ErrorInfo info;
      if (!any.UnpackTo(&info) || info.domain() != kDomain) continue;
      ErrorDetail detail;
      detail.reason = info.reason();
      detail.metadata = {info.metadata().begin(), info.metadata().end()};
      return MakeError(code, status.error_message(), std::move(detail));
    }
  }
  return absl::Status(code, status.error_message());
}

}  // namespace sinklora
