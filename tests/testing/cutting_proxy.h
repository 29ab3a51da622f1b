// A TCP proxy on this machine that cuts connections: what a broken network
// looks like to real clients and servers.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUTTING_PROXY_H_
#define SINKLORA_TESTS_TESTING_CUTTING_PROXY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace sinklora::testing {

class CuttingProxy {
 public:
  // Forwards to `server` (127.0.0.1:port).
  static absl::StatusOr<std::unique_ptr<CuttingProxy>> Start(
      const std::string& server);
  virtual ~CuttingProxy() = default;

  virtual std::string address() const = 0;  // 127.0.0.1:port
  // From now on, for `times` times: the connection is cut over which the server
  // has sent the last of `bytes`.
  virtual void CutAfter(int64_t bytes, int times) = 0;
  // The same once, and from then on nobody is let through until ComeBack().
  virtual void GoDownAfter(int64_t bytes) = 0;
  virtual void ComeBack() = 0;
  // Connections that were cut.
  virtual int cuts() const = 0;
  // Bytes that passed from the server.
  virtual int64_t passed_bytes() const = 0;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_CUTTING_PROXY_H_
