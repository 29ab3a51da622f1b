// SPDX-License-Identifier: Apache-2.0
#include "common/text/json.h"

#include <cmath>
#include <exception>
#include <stdexcept>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

// Watches the parser: keeps the keys of every open object to find duplicates,
// which the parser itself would resolve silently to the last one.
class ParseGuard {
 public:
  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    // Exceptions are the only way to stop this parser; ParseJsonObject catches
    // them.
    if (depth > kMaxDepth) {
      throw std::runtime_error(
          fmt::format("nesting is deeper than {} levels", kMaxDepth));
    }
    switch (event) {
      case json::parse_event_t::object_start:
        keys_.emplace_back();
        break;
      case json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second) {
          throw std::runtime_error("duplicate key " + JsonExcerpt(parsed));
        }
        break;
      }
      default:
        break;
    }
    return true;
  }

 private:
  std::vector<std::unordered_set<std::string>> keys_;
};

absl::Status WrongType(const std::string& what, const char* key,
                       const json& value, const char* expected) {
  return absl::InvalidArgumentError(fmt::format(
      "{}: {} is {}, expected {}", what, key, JsonExcerpt(value), expected));
}

}  // namespace

absl::StatusOr<json> ParseJsonObject(std::string_view text,
                                     const std::string& what) {
  // The parser would take a NUL for the end of the text and not see the rest.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: not valid JSON: has a NUL byte at offset {}", what, nul));
  }
  json value;
  try {
    ParseGuard guard;
    value = json::parse(
        text.begin(), text.end(),
        [&guard](int depth, json::parse_event_t event, json& parsed) {
          return guard(depth, event, parsed);
        });
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: not valid JSON: {}", what, PrintableExcerpt(error.what(), 300)));
  }
  if (!value.is_object()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: expected a JSON object, found {}", what, JsonExcerpt(value)));
  }
  return value;
}

std::string PrintableExcerpt(std::string_view text, size_t max_bytes) {
  std::string out;
  for (const char c : text.substr(0, max_bytes)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text.size() > max_bytes ? out + "..." : out;
}

std::string JsonExcerpt(const json& value) {
  constexpr size_t kMaxLength = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true,
                                json::error_handler_t::replace);
  if (text.size() > kMaxLength) {
    text.resize(kMaxLength - 3);
    text += "...";
  }
  return text;
}

const json* FindField(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return nullptr;
  return &*it;
}

absl::StatusOr<std::optional<std::string>> GetString(const json& object,
                                                     const char* key,
                                                     const std::string& what) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<std::string>();
  if (!field->is_string()) return WrongType(what, key, *field, "a string");
  return std::optional<std::string>(field->get<std::string>());
}

absl::StatusOr<std::optional<bool>> GetBool(const json& object, const char* key,
                                            const std::string& what) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<bool>();
  if (!field->is_boolean()) return WrongType(what, key, *field, "a boolean");
  return std::optional<bool>(field->get<bool>());
}

absl::StatusOr<std::optional<int64_t>> GetInt(const json& object,
                                              const char* key, int64_t min,
                                              int64_t max,
                                              const std::string& what) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<int64_t>();
  if (!field->is_number_integer()) {
    return WrongType(what, key, *field, "an integer");
  }
  // A value above int64 is stored as unsigned and would wrap when read signed.
  const bool too_large =
      field->is_number_unsigned() &&
      field->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t value = too_large ? INT64_MAX : field->get<int64_t>();
  if (too_large || value < min || value > max) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is {}, must be in [{}, {}]", what, key,
                    JsonExcerpt(*field), min, max));
  }
  return std::optional<int64_t>(value);
}

absl::StatusOr<std::optional<double>> GetNumber(const json& object,
                                                const char* key,
                                                const std::string& what) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<double>();
  if (!field->is_number()) return WrongType(what, key, *field, "a number");
  const double value = field->get<double>();
  if (!std::isfinite(value)) {
    return WrongType(what, key, *field, "a finite number");
  }
  return std::optional<double>(value);
}

}  // namespace sinklora
