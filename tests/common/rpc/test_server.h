// A server on a free port with one method of each kind, whose behaviour the
// test sets, and a client of it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_RPC_TEST_SERVER_H_
#define SINKLORA_TESTS_COMMON_RPC_TEST_SERVER_H_

#include <functional>
#include <memory>

#include "common/base/executor.h"
#include "common/metrics/metrics.h"
#include "common/rpc/channel.h"
#include "common/rpc/handlers.h"
#include "common/rpc/server.h"
#include "tests/testing/health.grpc.pb.h"
#include "tests/testing/matchers.h"
#include "tests/testing/test_service.grpc.pb.h"

namespace sinklora {

using testing::v1::TestRequest;
using testing::v1::TestResponse;

class TestService final : public testing::v1::TestService::CallbackService {
 public:
  using Unary_ = std::function<absl::Status(const CallInfo&, const TestRequest&,
                                            TestResponse*)>;
  using ServerStream_ = std::function<absl::Status(
      const CallInfo&, const TestRequest&, StreamWriter<TestResponse>*)>;
  using ClientStream_ = std::function<absl::Status(
      const CallInfo&, StreamReader<TestRequest>*, TestResponse*)>;

  explicit TestService(RpcContext rpc) : rpc_(std::move(rpc)) {}

  // Set before the first call.
  Unary_ unary;
  ServerStream_ server_stream;
  ClientStream_ client_stream;

  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context,
                                  const TestRequest* request,
                                  TestResponse* response) override {
    return RunUnary<TestRequest, TestResponse>(rpc_, "Unary", context, request,
                                               response, unary);
  }
  grpc::ServerWriteReactor<TestResponse>* ServerStream(
      grpc::CallbackServerContext* context,
      const TestRequest* request) override {
    return RunServerStream<TestRequest, TestResponse>(
        rpc_, "ServerStream", context, request, server_stream);
  }
  grpc::ServerReadReactor<TestRequest>* ClientStream(
      grpc::CallbackServerContext* context, TestResponse* response) override {
    return RunClientStream<TestRequest, TestResponse>(
        rpc_, "ClientStream", context, response, client_stream);
  }

 private:
  const RpcContext rpc_;
};

class RpcTest : public ::testing::Test {
 protected:
  explicit RpcTest(const Executor::Options& options = {.max_threads = 8})
      : executor_(Executor::Create(options)),
        service_({"TestService", executor_.get(), metrics_.get()}) {}

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, RpcServer::Create({}, {&service_}));
    server_->SetServing(true);
    channel_ = MakeChannel(server_->address());
    stub_ = testing::v1::TestService::NewStub(channel_);
  }

  grpc::Status CallUnary(int64_t number, TestResponse* response = nullptr) {
    TestRequest request;
    request.set_number(number);
    TestResponse unused;
    return stub_->Unary(MakeContext(kTimeoutSeconds).get(), request,
                        response != nullptr ? response : &unused);
  }
  double Handled(const std::string& method, const std::string& code) {
    return metrics_
        ->GetCounter(
            "sinklora_rpc_handled_total", "RPCs finished, by status code.",
            {{"service", "TestService"}, {"method", method}, {"code", code}})
        ->Value();
  }
  double InFlight() {
    return metrics_
        ->GetGauge("sinklora_rpc_in_flight", "RPCs that are not finished.",
                   {{"service", "TestService"}})
        ->Value();
  }

  static constexpr double kTimeoutSeconds = 60;

  std::unique_ptr<MetricsRegistry> metrics_ = MetricsRegistry::Create();
  std::unique_ptr<Executor> executor_;
  TestService service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<testing::v1::TestService::Stub> stub_;
};

}  // namespace sinklora

#endif  // SINKLORA_TESTS_COMMON_RPC_TEST_SERVER_H_
