// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdint>

namespace sinklora {
namespace {

bool IsLoopback(const std::string& host) {
  if (host == "localhost" || host == "[::1]") return true;
  // Parsed, because "127.example.org" is a host name.
  in_addr address;
  if (inet_pton(AF_INET, host.c_str(), &address) != 1) return false;
  return ntohl(address.s_addr) >> 24 == 127;
}

bool IsPort(const std::string& text) {
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, port);
  return result.ec == std::errc() && result.ptr == end && !text.empty();
}

}  // namespace

std::string HostOf(const std::string& address) {
  const size_t colon = address.rfind(':');
  return colon == std::string::npos ? "" : address.substr(0, colon);
}

absl::Status ValidateListenAddress(const std::string& field,
                                   const std::string& address,
                                   bool allow_remote) {
  const std::string host = HostOf(address);
  if (host.empty() || !IsPort(address.substr(host.size() + 1))) {
    return absl::InvalidArgumentError(
        fmt::format("{} is '{}', must be HOST:PORT", field, address));
  }
  if (!allow_remote && !IsLoopback(host)) {
    return absl::InvalidArgumentError(fmt::format(
        "{} is '{}', which is no loopback address: other machines could "
        "connect without authentication; --allow-remote permits it",
        field, address));
  }
  return absl::OkStatus();
}

}  // namespace sinklora
