// Client side: channels and per-call contexts. Every call has a deadline; calls
// that are safe to repeat are retried on UNAVAILABLE, and on a CANCELLED that
// is not the caller's (a server that shuts down says so), by gRPC's own retry
// policy: 4 attempts, exponential backoff, given in the channel's service
// config.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_CHANNEL_H_
#define SINKLORA_COMMON_RPC_CHANNEL_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>

namespace sinklora {

// Insecure channel to host:port, lazily connected. Keepalive on, 64 MiB
// messages.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

// Context with a deadline `timeout_seconds` from now. One per call.
std::unique_ptr<grpc::ClientContext> MakeContext(double timeout_seconds);

constexpr double kUnaryTimeoutSeconds = 30;
constexpr double kTransferTimeoutSeconds = 3600;

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_CHANNEL_H_
