// Adapters from gRPC's callback reactors to plain blocking functions that run
// on our Executor.
//
// A service method is one line: it names the method and hands over a function
// that validates, calls the core and returns an absl::Status. The adapters
// count and time every outcome, translate the status, watch for cancellation
// and never block a gRPC thread. When the executor is full the call fails with
// RESOURCE_EXHAUSTED at once.
//
//   grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
//   const GetJobRequest* request,
//                                    GetJobResponse* response) override {
//     return RunUnary<GetJobRequest, GetJobResponse>(rpc_, "GetJob", context,
//     request, response,
//         [this](const CallInfo&, const GetJobRequest& req, GetJobResponse*
//         resp) { return core_->Get(req, resp); });
//   }
//
// Lifetime: the function object lives until the call is done; `request` and
// `response` are owned by gRPC and valid as long. The service (and what the
// function captures) must outlive the server's Drain().
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_HANDLERS_H_
#define SINKLORA_COMMON_RPC_HANDLERS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/base/cancellation.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"

namespace sinklora {

// What one service hands to every adapter. Thread-safe. Borrows both. `service`
// becomes a metric label.
struct RpcContext {
  std::string service;  // e.g. "TrainingService"
  Executor* executor = nullptr;
  MetricsRegistry* metrics = nullptr;
};

// What a handler function may ask about its call.
struct CallInfo {
  // Set when the client went away, the deadline passed or the server drains:
  // stop at the next step.
  std::shared_ptr<Cancellation> cancellation;
};

// Blocking writer of a server stream, for one executor thread. Write() waits
// until the previous message was taken by the transport (back-pressure) and
// returns false when the call is over.
template <typename Response>
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  virtual bool Write(const Response& response) = 0;
};

// Blocking reader of a client stream, for one executor thread. False at the end
// of the stream or of the call, which cannot be told apart here: a client that
// died may be reported as cancelled only later. What must not be mistaken for a
// whole stream has to say itself that it is one (upload_receiver.h).
template <typename Request>
class StreamReader {
 public:
  virtual ~StreamReader() = default;
  virtual bool Read(Request* request) = 0;
};

template <typename Request, typename Response>
grpc::ServerUnaryReactor* RunUnary(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* context, const Request* request,
    Response* response,
    std::function<absl::Status(const CallInfo&, const Request&, Response*)>
        handler);

template <typename Request, typename Response>
grpc::ServerWriteReactor<Response>* RunServerStream(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* context, const Request* request,
    std::function<absl::Status(const CallInfo&, const Request&,
                               StreamWriter<Response>*)>
        handler);

template <typename Request, typename Response>
grpc::ServerReadReactor<Request>* RunClientStream(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* context, Response* response,
    std::function<absl::Status(const CallInfo&, StreamReader<Request>*,
                               Response*)>
        handler);

}  // namespace sinklora

#include "common/rpc/handlers_inl.h"  // IWYU pragma: export

#endif  // SINKLORA_COMMON_RPC_HANDLERS_H_
