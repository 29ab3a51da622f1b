// The gRPC server every process runs: callback services, grpc.health.v1,
// reflection, message limits, drain.
//
// Usage in main or standalone:
//   SL_ASSIGN_OR_RETURN(auto server, RpcServer::Create({.address =
//   "127.0.0.1:0"}, {&service_a, &service_b})); server->SetServing(true);  ...
//   server->Drain(30 s);
// Thread-safe after Create.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_SERVER_H_
#define SINKLORA_COMMON_RPC_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora {

class RpcServer {
 public:
  struct Options {
    // host:port; port 0 picks a free one. Unless `allow_remote`, only loopback
    // hosts are accepted: there is no authentication yet, so nothing listens to
    // the network by accident.
    std::string address = "127.0.0.1:0";
    bool allow_remote = false;
    int max_receive_message_bytes = 16 << 20;
  };
  // Starts listening; health is NOT_SERVING until SetServing(true). Borrows the
  // services: they must outlive the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Create(
      const Options& options, const std::vector<grpc::Service*>& services);
  virtual ~RpcServer() = default;

  virtual int port() const = 0;
  virtual std::string address() const = 0;  // host:port with the real port
  virtual void SetServing(bool serving) = 0;
  // Health NOT_SERVING, refuse new calls, wait up to `grace_seconds` for
  // running ones, cancel the rest, join.
  virtual void Drain(double grace_seconds) = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_SERVER_H_
