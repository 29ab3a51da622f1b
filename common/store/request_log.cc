// SPDX-License-Identifier: Apache-2.0
#include "common/store/request_log.h"

#include <fmt/format.h>

#include "common/base/status.h"

namespace sinklora {
namespace {

constexpr size_t kMaxRequestIdLength = 64;

// Methods are names of ours without '/', so the parts cannot run into each
// other.
std::string Key(const std::string& method, const std::string& request_id) {
  return fmt::format("request_log/{}/{}", method, request_id);
}

absl::Status ValidateRequestId(const std::string& request_id) {
  if (!request_id.empty() && request_id.size() <= kMaxRequestIdLength) {
    return absl::OkStatus();
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("request_id has {} characters, 1 to {} are allowed",
                  request_id.size(), kMaxRequestIdLength),
      {"INVALID_REQUEST_ID",
       {{"length", std::to_string(request_id.size())},
        {"limit", std::to_string(kMaxRequestIdLength)}}});
}

}  // namespace

absl::StatusOr<std::optional<std::string>> RequestLog::Find(
    const std::string& method, const std::string& request_id,
    const std::string& fingerprint) {
  SL_RETURN_IF_ERROR(ValidateRequestId(request_id));
  const absl::StatusOr<std::string> entry =
      store_->Get(Key(method, request_id));
  if (absl::IsNotFound(entry.status())) return std::nullopt;
  SL_RETURN_IF_ERROR(entry.status());
  const std::string expected = fingerprint + '\n';
  if (entry->compare(0, expected.size(), expected) == 0) {
    return entry->substr(expected.size());
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("request_id '{}' was used for a different {} request",
                  request_id, method),
      {"REQUEST_ID_REUSED", {{"request_id", request_id}, {"method", method}}});
}

void RequestLog::Record(const std::string& method,
                        const std::string& request_id,
                        const std::string& fingerprint,
                        const std::string& response, WriteBatch* batch) {
  batch->Put(Key(method, request_id),
             fmt::format("{}\n{}", fingerprint, response));
}

}  // namespace sinklora
