// Addresses to listen on. Thread-safe, stateless.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_ADDRESS_H_
#define SINKLORA_COMMON_RPC_ADDRESS_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora {

// The part before the last ':', e.g. "127.0.0.1" or "[::1]". Empty when there
// is no ':'.
std::string HostOf(const std::string& address);

// kInvalidArgument naming `field` unless `address` is host:port with a port of
// 0 to 65535 and, when `allow_remote` is false, a loopback host (localhost,
// 127.x.y.z, [::1]).
absl::Status ValidateListenAddress(const std::string& field,
                                   const std::string& address,
                                   bool allow_remote);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_ADDRESS_H_
