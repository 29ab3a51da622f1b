// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/handlers.h"

#include <future>
#include <latch>
#include <stdexcept>
#include <thread>

#include "common/base/status.h"
#include "common/rpc/status_translation.h"
#include "tests/common/rpc/test_server.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

// Until the call is cancelled; the RPC's deadline bounds the wait.
void AwaitCancellation(const CallInfo& info) {
  while (!info.cancellation->cancelled()) std::this_thread::yield();
}

class HandlersTest : public RpcTest {};

TEST_F(HandlersTest, UnaryAnswersAndIsCounted) {
  service_.unary = [](const CallInfo&, const TestRequest& request,
                      TestResponse* response) {
    response->set_number(request.number() + 1);
    return absl::OkStatus();
  };
  TestResponse response;
  ASSERT_TRUE(CallUnary(41, &response).ok());
  EXPECT_EQ(response.number(), 42);
  EXPECT_EQ(Handled("Unary", "OK"), 1);
  EXPECT_EQ(InFlight(), 0);
  EXPECT_THAT(metrics_->Serialize(),
              HasSubstr("sinklora_rpc_started_total{method=\"Unary\","
                        "service=\"TestService\"} 1\n"));
  EXPECT_THAT(metrics_->Serialize(),
              HasSubstr("sinklora_rpc_duration_seconds_count{method=\"Unary\","
                        "service=\"TestService\"} 1\n"));
}

TEST_F(HandlersTest, ErrorDetailCrossesTheWire) {
  service_.unary = [](const CallInfo&, const TestRequest&, TestResponse*) {
    return MakeError(absl::StatusCode::kFailedPrecondition, "epoch 2 < 3",
                     {"STALE_LEASE_EPOCH", {{"epoch", "2"}}});
  };
  const absl::Status status = FromGrpc(CallUnary(1));
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kFailedPrecondition, "epoch 2 < 3"));
  EXPECT_EQ(GetErrorDetail(status).reason, "STALE_LEASE_EPOCH");
  EXPECT_EQ(GetErrorDetail(status).metadata.at("epoch"), "2");
  EXPECT_EQ(Handled("Unary", "FAILED_PRECONDITION"), 1);
}

TEST_F(HandlersTest, ExceptionBecomesInternalWithoutItsText) {
  service_.unary = [](const CallInfo&, const TestRequest&,
                      TestResponse*) -> absl::Status {
    throw std::runtime_error("secret path");
  };
  EXPECT_THAT(FromGrpc(CallUnary(1)),
              StatusIs(absl::StatusCode::kInternal, Not(HasSubstr("secret"))));
  service_.unary = [](const CallInfo&, const TestRequest&,
                      TestResponse*) -> absl::Status { throw 1; };
  EXPECT_THAT(FromGrpc(CallUnary(1)), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(Handled("Unary", "INTERNAL"), 2);
}

TEST_F(HandlersTest, ClientCancelReachesTheHandler) {
  std::promise<void> started;
  std::promise<void> ended;
  service_.unary = [&](const CallInfo& info, const TestRequest&,
                       TestResponse*) {
    started.set_value();
    AwaitCancellation(info);
    ended.set_value();
    return absl::CancelledError("stopped");
  };
  auto context = MakeContext(kTimeoutSeconds);
  std::thread canceller([&] {
    started.get_future().wait();
    context->TryCancel();
  });
  TestResponse response;
  const grpc::Status status =
      stub_->Unary(context.get(), TestRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  ended.get_future().wait();
  canceller.join();
}

TEST_F(HandlersTest, DeadlineReachesTheHandler) {
  std::promise<void> ended;
  service_.unary = [&](const CallInfo& info, const TestRequest&,
                       TestResponse*) {
    AwaitCancellation(info);
    ended.set_value();
    return absl::CancelledError("stopped");
  };
  TestResponse response;
  const grpc::Status status = stub_->Unary(
      MakeContext(/*timeout_seconds=*/0.2).get(), TestRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ended.get_future().wait();
}

TEST_F(HandlersTest, ServerStreamKeepsOrder) {
  constexpr int kMessages = 1000;
  service_.server_stream = [](const CallInfo&, const TestRequest& request,
                              StreamWriter<TestResponse>* writer) {
    TestResponse response;
    for (int64_t i = 0; i < request.number(); ++i) {
      response.set_number(i);
      if (!writer->Write(response)) return absl::CancelledError("gone");
    }
    return MakeError(absl::StatusCode::kDataLoss, "at the end", {"END", {}});
  };
  auto context = MakeContext(kTimeoutSeconds);
  TestRequest request;
  request.set_number(kMessages);
  auto reader = stub_->ServerStream(context.get(), request);
  TestResponse response;
  int64_t received = 0;
  while (reader->Read(&response)) EXPECT_EQ(response.number(), received++);
  EXPECT_EQ(received, kMessages);
  EXPECT_EQ(GetErrorDetail(FromGrpc(reader->Finish())).reason, "END");
  EXPECT_EQ(Handled("ServerStream", "DATA_LOSS"), 1);
}

TEST_F(HandlersTest, ServerStreamWithoutMessages) {
  service_.server_stream = [](const CallInfo&, const TestRequest&,
                              StreamWriter<TestResponse>*) {
    return absl::OkStatus();
  };
  auto context = MakeContext(kTimeoutSeconds);
  auto reader = stub_->ServerStream(context.get(), TestRequest());
  TestResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(HandlersTest, ServerStreamBlocksOnASlowReaderUntilCancelled) {
  std::promise<int> written;
  service_.server_stream = [&](const CallInfo& info, const TestRequest&,
                               StreamWriter<TestResponse>* writer) {
    TestResponse response;
    response.set_payload(std::string(1 << 20, 'x'));
    int count = 0;
    while (writer->Write(response)) ++count;
    EXPECT_TRUE(info.cancellation->cancelled());
    written.set_value(count);
    return absl::CancelledError("gone");
  };
  auto context = MakeContext(kTimeoutSeconds);
  auto reader = stub_->ServerStream(context.get(), TestRequest());
  TestResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context->TryCancel();
  // The writer cannot run far ahead of the one message that was read: the
  // windows of the connection bound it.
  EXPECT_LT(written.get_future().get(), 256);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HandlersTest, ClientStreamIsReadToItsEnd) {
  service_.client_stream = [](const CallInfo&,
                              StreamReader<TestRequest>* reader,
                              TestResponse* response) {
    TestRequest request;
    int64_t sum = 0;
    while (reader->Read(&request)) sum += request.number();
    EXPECT_FALSE(reader->Read(&request));
    response->set_number(sum);
    return absl::OkStatus();
  };
  auto context = MakeContext(kTimeoutSeconds);
  TestResponse response;
  auto writer = stub_->ClientStream(context.get(), &response);
  TestRequest request;
  for (int64_t i = 1; i <= 1000; ++i) {
    request.set_number(i);
    ASSERT_TRUE(writer->Write(request));
  }
  writer->WritesDone();
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(response.number(), 500'500);
}

TEST_F(HandlersTest, ClientStreamMayBeRefusedEarly) {
  service_.client_stream =
      [](const CallInfo&, StreamReader<TestRequest>* reader, TestResponse*) {
        TestRequest request;
        EXPECT_TRUE(reader->Read(&request));
        return absl::InvalidArgumentError("first message is wrong");
      };
  auto context = MakeContext(kTimeoutSeconds);
  TestResponse response;
  auto writer = stub_->ClientStream(context.get(), &response);
  TestRequest request;
  request.set_payload(std::string(1 << 16, 'x'));
  while (writer->Write(request)) {
  }
  EXPECT_THAT(FromGrpc(writer->Finish()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("first")));
}

TEST_F(HandlersTest, ClientStreamCancelUnblocksTheReader) {
  std::promise<void> first_read;
  std::promise<bool> second_read;
  service_.client_stream = [&](const CallInfo& info,
                               StreamReader<TestRequest>* reader,
                               TestResponse*) {
    TestRequest request;
    EXPECT_TRUE(reader->Read(&request));
    first_read.set_value();
    const bool more = reader->Read(&request);
    AwaitCancellation(info);
    second_read.set_value(more);
    return absl::CancelledError("gone");
  };
  auto context = MakeContext(kTimeoutSeconds);
  TestResponse response;
  auto writer = stub_->ClientStream(context.get(), &response);
  ASSERT_TRUE(writer->Write(TestRequest()));
  first_read.get_future().wait();
  context->TryCancel();
  EXPECT_FALSE(second_read.get_future().get());
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HandlersTest, ManyCallsAtOnce) {
  service_.unary = [](const CallInfo&, const TestRequest& request,
                      TestResponse* response) {
    response->set_number(request.number());
    return absl::OkStatus();
  };
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        TestResponse response;
        EXPECT_TRUE(CallUnary(i, &response).ok());
        EXPECT_EQ(response.number(), i);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(Handled("Unary", "OK"), 800);
  EXPECT_EQ(InFlight(), 0);
}

class FullExecutorTest : public RpcTest {
 protected:
  FullExecutorTest() : RpcTest({.max_threads = 1, .max_queued = 0}) {}
};

TEST_F(FullExecutorTest, CallsAreRefusedAtOnce) {
  std::promise<void> started;
  std::latch release(1);
  service_.unary = [&](const CallInfo&, const TestRequest&, TestResponse*) {
    started.set_value();
    release.wait();
    return absl::OkStatus();
  };
  service_.server_stream = [](const CallInfo&, const TestRequest&,
                              StreamWriter<TestResponse>*) {
    return absl::OkStatus();
  };
  service_.client_stream = [](const CallInfo&, StreamReader<TestRequest>*,
                              TestResponse*) { return absl::OkStatus(); };
  std::thread first([&] { EXPECT_TRUE(CallUnary(1).ok()); });
  started.get_future().wait();
  const absl::Status unary = FromGrpc(CallUnary(2));
  EXPECT_THAT(unary, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(GetErrorDetail(unary).reason, "EXECUTOR_FULL");
  auto context = MakeContext(kTimeoutSeconds);
  EXPECT_EQ(
      stub_->ServerStream(context.get(), TestRequest())->Finish().error_code(),
      grpc::StatusCode::RESOURCE_EXHAUSTED);
  auto other_context = MakeContext(kTimeoutSeconds);
  TestResponse response;
  auto writer = stub_->ClientStream(other_context.get(), &response);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  release.count_down();
  first.join();
  EXPECT_EQ(Handled("Unary", "RESOURCE_EXHAUSTED"), 1);
  EXPECT_EQ(Handled("Unary", "OK"), 1);
  EXPECT_EQ(InFlight(), 0);
}

class InlineExecutorTest : public RpcTest {
 protected:
  InlineExecutorTest() : RpcTest({.max_threads = 0}) {}
};

TEST_F(InlineExecutorTest, UnaryFinishesBeforeTheReactorIsReturned) {
  service_.unary = [](const CallInfo&, const TestRequest&, TestResponse*) {
    return absl::OkStatus();
  };
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(CallUnary(i).ok());
}

}  // namespace
}  // namespace sinklora
