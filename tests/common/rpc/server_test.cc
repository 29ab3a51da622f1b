// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/server.h"

#include <atomic>
#include <latch>
#include <thread>

#include "tests/common/rpc/test_server.h"

namespace sinklora {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

class ServerTest : public RpcTest {
 protected:
  grpc::Status Check(const std::string& service,
                     HealthCheckResponse* response) {
    HealthCheckRequest request;
    request.set_service(service);
    return Health::NewStub(channel_)->Check(MakeContext(kTimeoutSeconds).get(),
                                            request, response);
  }
  HealthCheckResponse::ServingStatus Serving(const std::string& service) {
    HealthCheckResponse response;
    EXPECT_TRUE(Check(service, &response).ok());
    return response.status();
  }
};

TEST_F(ServerTest, HealthPerService) {
  constexpr char kName[] = "sinklora.testing.v1.TestService";
  for (const bool serving : {true, false, true}) {
    server_->SetServing(serving);
    const auto expected = serving ? HealthCheckResponse::SERVING
                                  : HealthCheckResponse::NOT_SERVING;
    EXPECT_EQ(Serving(""), expected);
    EXPECT_EQ(Serving(kName), expected);
  }
  HealthCheckResponse response;
  EXPECT_EQ(Check("sinklora.Unknown", &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, NotServingUntilTold) {
  ASSERT_OK_AND_ASSIGN(server_, RpcServer::Create({}, {}));
  channel_ = MakeChannel(server_->address());
  EXPECT_EQ(Serving(""), HealthCheckResponse::NOT_SERVING);
}

TEST_F(ServerTest, AddressHasTheRealPort) {
  EXPECT_GT(server_->port(), 0);
  EXPECT_EQ(server_->address(), "127.0.0.1:" + std::to_string(server_->port()));
}

TEST_F(ServerTest, TakenPortIsUnavailable) {
  EXPECT_THAT(
      RpcServer::Create({.address = server_->address()}, {}),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server_->address())));
}

TEST_F(ServerTest, OnlyLoopbackUnlessAllowed) {
  EXPECT_THAT(
      RpcServer::Create({.address = "0.0.0.0:0"}, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0.0.0.0:0")));
  EXPECT_OK(
      RpcServer::Create({.address = "0.0.0.0:0", .allow_remote = true}, {}));
}

TEST_F(ServerTest, OversizedRequestIsRefused) {
  service_.unary = [](const CallInfo&, const TestRequest&, TestResponse*) {
    return absl::OkStatus();
  };
  TestRequest request;
  request.set_payload(std::string((16 << 20) + 1, 'x'));
  TestResponse response;
  EXPECT_EQ(stub_->Unary(MakeContext(kTimeoutSeconds).get(), request, &response)
                .error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerTest, DrainLetsRunningCallsEnd) {
  std::latch started(1);
  std::latch release(1);
  service_.unary = [&](const CallInfo& info, const TestRequest& request,
                       TestResponse* response) {
    response->set_number(request.number());
    if (request.number() != 1) return absl::OkStatus();
    started.count_down();
    release.wait();
    EXPECT_FALSE(info.cancellation->cancelled());
    return absl::OkStatus();
  };
  std::thread client([&] {
    TestResponse response;
    EXPECT_TRUE(CallUnary(1, &response).ok());
    EXPECT_EQ(response.number(), 1);
  });
  started.wait();
  std::atomic<bool> drained = false;
  std::thread drain([&] {
    server_->Drain(kTimeoutSeconds);
    drained = true;
  });
  // The drain has begun once nobody else is let in, and has not ended while the
  // first call is still at work.
  grpc::Status late;
  do {
    late = CallUnary(2);
  } while (late.ok());
  EXPECT_EQ(late.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(InFlight(), 1);
  EXPECT_FALSE(drained);
  release.count_down();
  drain.join();
  client.join();
  EXPECT_EQ(CallUnary(3).error_code(), grpc::StatusCode::UNAVAILABLE);
  server_->Drain(0);
  server_->SetServing(true);
}

TEST_F(ServerTest, DrainCancelsWhatDoesNotEnd) {
  std::latch started(3);
  service_.unary = [&](const CallInfo& info, const TestRequest&,
                       TestResponse*) {
    started.count_down();
    while (!info.cancellation->cancelled()) std::this_thread::yield();
    return absl::CancelledError("drained");
  };
  service_.server_stream = [&](const CallInfo&, const TestRequest&,
                               StreamWriter<TestResponse>* writer) {
    started.count_down();
    TestResponse response;
    response.set_payload(std::string(1 << 16, 'x'));
    while (writer->Write(response)) {
    }
    return absl::CancelledError("drained");
  };
  service_.client_stream =
      [&](const CallInfo&, StreamReader<TestRequest>* reader, TestResponse*) {
        started.count_down();
        TestRequest request;
        while (reader->Read(&request)) {
        }
        return absl::CancelledError("drained");
      };
  std::thread unary([&] { EXPECT_FALSE(CallUnary(1).ok()); });
  auto context = MakeContext(kTimeoutSeconds);
  auto reader = stub_->ServerStream(context.get(), TestRequest());
  auto other_context = MakeContext(kTimeoutSeconds);
  TestResponse response;
  auto writer = stub_->ClientStream(other_context.get(), &response);
  ASSERT_TRUE(writer->Write(TestRequest()));
  started.wait();
  server_->Drain(/*grace_seconds=*/0);
  unary.join();
  EXPECT_EQ(InFlight(), 0);
  EXPECT_FALSE(writer->Finish().ok());
}

// Clients come back to a server that was restarted on the same port, within the
// retries of one call.
TEST_F(ServerTest, ChannelFindsARestartedServer) {
  service_.unary = [](const CallInfo&, const TestRequest&, TestResponse*) {
    return absl::OkStatus();
  };
  ASSERT_TRUE(CallUnary(1).ok());
  const std::string address = server_->address();
  server_.reset();
  EXPECT_EQ(CallUnary(2).error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_OK_AND_ASSIGN(server_,
                       RpcServer::Create({.address = address}, {&service_}));
  auto context = MakeContext(kTimeoutSeconds);
  context->set_wait_for_ready(true);
  TestResponse response;
  EXPECT_TRUE(stub_->Unary(context.get(), TestRequest(), &response).ok());
}

TEST_F(ServerTest, UnavailableIsRetriedByTheChannel) {
  std::atomic<int> calls = 0;
  service_.unary = [&](const CallInfo&, const TestRequest&, TestResponse*) {
    switch (++calls) {
      case 1:
        return absl::UnavailableError("not yet");
      case 2:
        return absl::CancelledError("too late for a server that goes");
      default:
        return absl::OkStatus();
    }
  };
  EXPECT_TRUE(CallUnary(1).ok());
  EXPECT_EQ(calls, 3);
  calls = 0;
  service_.unary = [&](const CallInfo&, const TestRequest&, TestResponse*) {
    ++calls;
    return absl::AbortedError("no");
  };
  EXPECT_EQ(CallUnary(1).error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace sinklora
