// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/strings/cord.h"

namespace sinklora {
namespace {

constexpr char kDetailPayload[] = "sinklora/error-detail";

// The payload is a list of strings, each as LENGTH:BYTES: reason, then keys and
// values in turn.
void AppendField(std::string_view field, std::string* out) {
  *out += fmt::format("{}:{}", field.size(), field);
}

std::optional<std::string> TakeField(std::string_view* in) {
  size_t size = 0;
  const auto [end, error] =
      std::from_chars(in->data(), in->data() + in->size(), size);
  if (error != std::errc() || end == in->data() + in->size() || *end != ':') {
    return std::nullopt;
  }
  in->remove_prefix(static_cast<size_t>(end - in->data()) + 1);
  if (size > in->size()) return std::nullopt;
  std::string field(in->substr(0, size));
  in->remove_prefix(size);
  return field;
}

absl::StatusCode ToAbslCode(kernels::StatusCode code) {
  switch (code) {
    case kernels::StatusCode::kOk:
      return absl::StatusCode::kOk;
    case kernels::StatusCode::kInvalidArgument:
      return absl::StatusCode::kInvalidArgument;
    case kernels::StatusCode::kUnimplemented:
      return absl::StatusCode::kUnimplemented;
    case kernels::StatusCode::kResourceExhausted:
      return absl::StatusCode::kResourceExhausted;
    case kernels::StatusCode::kUnavailable:
      return absl::StatusCode::kUnavailable;
    case kernels::StatusCode::kInternal:
      return absl::StatusCode::kInternal;
  }
  return absl::StatusCode::kInternal;
}

}  // namespace

absl::Status ToAbsl(const kernels::Status& status) {
  return absl::Status(ToAbslCode(status.code()), status.message());
}

absl::Status MakeError(absl::StatusCode code, const std::string& message,
                       ErrorDetail detail) {
  std::string payload;
  AppendField(detail.reason, &payload);
  for (const auto& [key, value] : detail.metadata) {
    AppendField(key, &payload);
    AppendField(value, &payload);
  }
  absl::Status status(code, message);
  status.SetPayload(kDetailPayload, absl::Cord(payload));
  return status;
}

ErrorDetail GetErrorDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(kDetailPayload);
  if (!payload.has_value()) return {};
  const std::string bytes(*payload);
  std::string_view rest = bytes;
  ErrorDetail detail;
  detail.reason = TakeField(&rest).value_or("");
  while (!rest.empty()) {
    const auto key = TakeField(&rest);
    const auto value = key ? TakeField(&rest) : std::nullopt;
    if (!value) break;
    detail.metadata[*key] = *value;
  }
  return detail;
}

bool MayResume(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status);
}

absl::Status Annotate(const absl::Status& status, const std::string& prefix) {
  if (status.ok()) return status;
  absl::Status annotated(
      status.code(),
      fmt::format("{}: {}", prefix, std::string(status.message())));
  status.ForEachPayload(
      [&annotated](absl::string_view type, const absl::Cord& payload) {
        annotated.SetPayload(type, payload);
      });
  return annotated;
}

}  // namespace sinklora
