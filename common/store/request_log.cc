// SPDX-License-Identifier: Apache-2.0
#include "common/store/request_log.h"

#include <fmt/format.h>

#include <string_view>

#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora {
namespace {

constexpr size_t kMaxRequestIdLength = 64;
constexpr int64_t kRetentionMicros =
    int64_t{kRequestRetentionDays} * 24 * 3600 * 1'000'000;
// More than one, so that a log that has grown shrinks.
constexpr int kTakenPerRecord = 4;

// When each entry was written: request_time/<micros>/<method>/<request_id>.
constexpr std::string_view kTimePrefix = "request_time/";
constexpr size_t kTimeDigits = 20;

// Methods are names of ours without '/', so the parts cannot run into each
// other.
std::string Key(const std::string& method, const std::string& request_id) {
  return fmt::format("request_log/{}/{}", method, request_id);
}

std::string TimeKey(int64_t micros, const std::string& method,
                    const std::string& request_id) {
  return fmt::format("{}{:0{}}/{}/{}", kTimePrefix, micros, kTimeDigits, method,
                     request_id);
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
  const int64_t now_micros = clock_->WallMicros();
  TakeOld(now_micros, batch);
  batch->Put(Key(method, request_id),
             fmt::format("{}\n{}", fingerprint, response));
  batch->Put(TimeKey(now_micros, method, request_id), "");
}

void RequestLog::TakeOld(int64_t now_micros, WriteBatch* batch) {
  const auto oldest =
      store_->Scan(std::string(kTimePrefix), "", kTakenPerRecord);
  if (!oldest.ok()) {
    // The request itself does not depend on it; the next one tries again.
    LogWarning("cannot trim the request log: {}",
               std::string(oldest.status().message()));
    return;
  }
  // Digits of one width sort as numbers do.
  const std::string end = TimeKey(now_micros - kRetentionMicros, "", "");
  for (const auto& [key, unused] : *oldest) {
    if (key >= end) return;
    batch->Delete("request_log/" +
                  key.substr(kTimePrefix.size() + kTimeDigits + 1));
    batch->Delete(key);
  }
}

}  // namespace sinklora
