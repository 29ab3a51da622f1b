// A TCP proxy that stops carrying bytes to the server once it has carried so
// many: a network that hangs in the middle of a request, the same every time.
//
// What the server says is carried on. When one side closes, the other is closed
// too. One connection at a time, which is what a gRPC channel makes.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_E2E_STALLING_PROXY_H_
#define SINKLORA_TESTS_E2E_STALLING_PROXY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "common/base/posix.h"

namespace sinklora::testing {

class StallingProxy {
 public:
  // Listens on a free port of 127.0.0.1 and connects to `target`
  // (127.0.0.1:port). `limit_bytes` counts over all connections.
  static absl::StatusOr<std::unique_ptr<StallingProxy>> Start(
      const std::string& target, int64_t limit_bytes);
  ~StallingProxy();

  const std::string& address() const { return address_; }
  // The server has been sent all that it will ever get.
  bool stalled() const { return left_bytes_ == 0; }

 private:
  StallingProxy(int listener, std::string address, int target_port,
                int64_t limit_bytes);
  void Run();
  void Carry(int client, int server);
  // Copies what is there to read, at most `limit` bytes. How many were copied;
  // 0 at the end of the connection.
  static int64_t Copy(int from, int to, int64_t limit);

  const posix::ScopedFd listener_;
  const std::string address_;
  const int target_port_;
  std::atomic<int64_t> left_bytes_;
  std::atomic<bool> stopped_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_E2E_STALLING_PROXY_H_
