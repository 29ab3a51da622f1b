// Typed access to the metadata of a GGUF file.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>

#include "common/base/status.h"
#include "common/gguf/gguf_file.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

template <typename T>
T Load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Of an integer type; false otherwise. *too_big: not an int64_t.
bool LoadInteger(uint32_t type, std::string_view bytes, int64_t* value,
                 bool* too_big) {
  *too_big = false;
  switch (static_cast<GgufValueType>(type)) {
    case GgufValueType::kUint8:
      *value = Load<uint8_t>(bytes);
      return true;
    case GgufValueType::kInt8:
      *value = Load<int8_t>(bytes);
      return true;
    case GgufValueType::kUint16:
      *value = Load<uint16_t>(bytes);
      return true;
    case GgufValueType::kInt16:
      *value = Load<int16_t>(bytes);
      return true;
    case GgufValueType::kUint32:
      *value = Load<uint32_t>(bytes);
      return true;
    case GgufValueType::kInt32:
      *value = Load<int32_t>(bytes);
      return true;
    case GgufValueType::kInt64:
      *value = Load<int64_t>(bytes);
      return true;
    case GgufValueType::kUint64:
      *value = static_cast<int64_t>(Load<uint64_t>(bytes));
      *too_big = *value < 0;
      return true;
    default:
      return false;
  }
}

template <typename T>
std::vector<T> LoadArray(std::string_view bytes, uint64_t count) {
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  return values;
}

}  // namespace

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

const GgufFile::Value* GgufFile::Find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::Status GgufFile::TypeError(std::string_view key, const Value& value,
                                 const std::string& expected) const {
  const bool array = value.type == static_cast<uint32_t>(GgufValueType::kArray);
  return absl::InvalidArgumentError(fmt::format(
      "{}: key '{}' is {}{}, must be {}", what_, key,
      array ? "an array of " : "of type ",
      GgufValueTypeName(array ? value.element_type : value.type), expected));
}

absl::StatusOr<std::optional<int64_t>> GgufFile::GetInt(std::string_view key,
                                                        int64_t max) const {
  const Value* value = Find(key);
  if (value == nullptr) return std::optional<int64_t>();
  int64_t number = 0;
  bool too_big = false;
  if (!LoadInteger(value->type, value->bytes, &number, &too_big)) {
    return TypeError(key, *value, "an integer");
  }
  if (too_big || number < 0 || number > max) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, must be in [0, {}]", what_, key,
                    too_big ? fmt::format("{}", static_cast<uint64_t>(number))
                            : fmt::format("{}", number),
                    max));
  }
  return std::optional<int64_t>(number);
}

absl::StatusOr<std::optional<double>> GgufFile::GetNumber(
    std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) return std::optional<double>();
  double number = 0;
  int64_t integer = 0;
  bool too_big = false;
  if (value->type == static_cast<uint32_t>(GgufValueType::kFloat32)) {
    number = Load<float>(value->bytes);
  } else if (value->type == static_cast<uint32_t>(GgufValueType::kFloat64)) {
    number = Load<double>(value->bytes);
  } else if (LoadInteger(value->type, value->bytes, &integer, &too_big) &&
             !too_big) {
    number = static_cast<double>(integer);
  } else {
    return TypeError(key, *value, "a number");
  }
  if (!std::isfinite(number)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, must be finite", what_, key, number));
  }
  return std::optional<double>(number);
}

absl::StatusOr<std::optional<bool>> GgufFile::GetBool(
    std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) return std::optional<bool>();
  if (value->type != static_cast<uint32_t>(GgufValueType::kBool)) {
    return TypeError(key, *value, "a bool");
  }
  const auto byte = Load<uint8_t>(value->bytes);
  if (byte > 1) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is a bool of value {}, must be 0 or 1", what_,
                    key, byte));
  }
  return std::optional<bool>(byte == 1);
}

absl::StatusOr<std::optional<std::string_view>> GgufFile::GetString(
    std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) return std::optional<std::string_view>();
  if (value->type != static_cast<uint32_t>(GgufValueType::kString)) {
    return TypeError(key, *value, "a string");
  }
  return std::optional<std::string_view>(value->bytes);
}

absl::Status GgufFile::BadString(std::string_view key,
                                 std::optional<std::string_view> value,
                                 const std::string& allowed) const {
  constexpr size_t kMaxShown = 100;
  return absl::InvalidArgumentError(fmt::format(
      "{}: key '{}' is {}, must be {}", what_, key,
      value ? fmt::format("'{}'", PrintableExcerpt(*value, kMaxShown))
            : "missing",
      allowed));
}

absl::StatusOr<const GgufFile::Value*> GgufFile::FindArray(
    std::string_view key, GgufValueType element_type) const {
  const Value* value = Find(key);
  if (value == nullptr) return nullptr;
  const auto element = static_cast<uint32_t>(element_type);
  if (value->type != static_cast<uint32_t>(GgufValueType::kArray) ||
      value->element_type != element) {
    return TypeError(key, *value, "an array of " + GgufValueTypeName(element));
  }
  return value;
}

absl::StatusOr<std::optional<std::vector<std::string_view>>>
GgufFile::GetStrings(std::string_view key) const {
  SL_ASSIGN_OR_RETURN(const Value* value,
                      FindArray(key, GgufValueType::kString));
  if (value == nullptr) return std::optional<std::vector<std::string_view>>();
  std::vector<std::string_view> strings;
  strings.reserve(value->count);
  std::string_view rest = value->bytes;  // walked once when the file was opened
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto length = Load<uint64_t>(rest);
    strings.push_back(rest.substr(sizeof(uint64_t), length));
    rest.remove_prefix(sizeof(uint64_t) + length);
  }
  return std::optional(std::move(strings));
}

absl::StatusOr<std::optional<std::vector<float>>> GgufFile::GetFloats(
    std::string_view key) const {
  SL_ASSIGN_OR_RETURN(const Value* value,
                      FindArray(key, GgufValueType::kFloat32));
  if (value == nullptr) return std::optional<std::vector<float>>();
  return std::optional(LoadArray<float>(value->bytes, value->count));
}

absl::StatusOr<std::optional<std::vector<int32_t>>> GgufFile::GetInt32s(
    std::string_view key) const {
  SL_ASSIGN_OR_RETURN(const Value* value,
                      FindArray(key, GgufValueType::kInt32));
  if (value == nullptr) return std::optional<std::vector<int32_t>>();
  return std::optional(LoadArray<int32_t>(value->bytes, value->count));
}

}  // namespace sinklora
