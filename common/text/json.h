// JSON from files that others wrote: parsed without exceptions for the caller,
// nesting limited, duplicate keys refused, and fields read with errors that
// name the field and the value found.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_JSON_H_
#define SINKLORA_COMMON_TEXT_JSON_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace sinklora {

// Parses an object. kInvalidArgument naming `what` (a file) for a syntax error
// with its position, nesting deeper than 64, a duplicate key, or a value that
// is not an object.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text,
                                               const std::string& what);

// At most 80 characters of a value, for error messages.
std::string JsonExcerpt(const nlohmann::json& value);

// The first `max_bytes` bytes of any text, for error messages: what is not
// printable ASCII as \xNN, "..." where it was cut.
std::string PrintableExcerpt(std::string_view text, size_t max_bytes);

// The field `key`, or nullptr when it is absent or null.
const nlohmann::json* FindField(const nlohmann::json& object, const char* key);

// Optional fields: nullopt when absent or null; kInvalidArgument naming `what`,
// the field and the value when of another type or, for integers, outside
// [min, max].
absl::StatusOr<std::optional<std::string>> GetString(
    const nlohmann::json& object, const char* key, const std::string& what);
absl::StatusOr<std::optional<bool>> GetBool(const nlohmann::json& object,
                                            const char* key,
                                            const std::string& what);
absl::StatusOr<std::optional<int64_t>> GetInt(const nlohmann::json& object,
                                              const char* key, int64_t min,
                                              int64_t max,
                                              const std::string& what);
absl::StatusOr<std::optional<double>> GetNumber(const nlohmann::json& object,
                                                const char* key,
                                                const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_JSON_H_
