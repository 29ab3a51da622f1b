// SPDX-License-Identifier: Apache-2.0
#include "common/base/ids.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>

#include "common/base/status.h"

namespace sinklora {
namespace {

constexpr size_t kMaxIdLength = 63;
constexpr int kRandomCharacters = 12;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsLowerOrDigit(char c) { return IsLower(c) || (c >= '0' && c <= '9'); }

bool IsValidId(std::string_view id) {
  if (id.empty() || id.size() > kMaxIdLength) return false;
  if (!IsLower(id.front()) || !IsLowerOrDigit(id.back())) return false;
  return std::all_of(id.begin(), id.end(),
                     [](char c) { return IsLowerOrDigit(c) || c == '-'; });
}

}  // namespace

absl::Status ValidateId(std::string_view field, std::string_view id) {
  if (IsValidId(id)) return absl::OkStatus();
  // Enough to recognise it, without echoing a hostile client's megabyte.
  const std::string shown(id.substr(0, kMaxIdLength + 1));
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("{} '{}' must match ^[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?$",
                  field, shown),
      {"INVALID_ID", {{"field", std::string(field)}, {"value", shown}}});
}

std::string NewId(std::string_view prefix) {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::uniform_int_distribution<size_t> index(0, kAlphabet.size() - 1);
  std::string id = fmt::format("{}-", prefix);
  for (int i = 0; i < kRandomCharacters; ++i) {
    id.push_back(kAlphabet[index(random)]);
  }
  return id;
}

std::string NewRequestId() {
  std::random_device random;
  std::array<uint32_t, 4> bits;
  for (uint32_t& word : bits) word = random();
  const uint32_t version = (bits[1] & 0x0fffu) | 0x4000u;
  const uint32_t variant = (bits[2] >> 16 & 0x3fffu) | 0x8000u;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", bits[0],
                     bits[1] >> 16, version, variant, bits[2] & 0xffffu,
                     bits[3]);
}

}  // namespace sinklora
