// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/status_translation.h"

#include "common/base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;

struct Row {
  absl::StatusCode absl_code;
  grpc::StatusCode grpc_code;
  const char* reason;
};

constexpr Row kTable[] = {
    {absl::StatusCode::kCancelled, grpc::StatusCode::CANCELLED, "CANCELLED"},
    {absl::StatusCode::kUnknown, grpc::StatusCode::UNKNOWN, "UNKNOWN"},
    {absl::StatusCode::kInvalidArgument, grpc::StatusCode::INVALID_ARGUMENT,
     "INVALID_ARGUMENT"},
    {absl::StatusCode::kDeadlineExceeded, grpc::StatusCode::DEADLINE_EXCEEDED,
     "DEADLINE_EXCEEDED"},
    {absl::StatusCode::kNotFound, grpc::StatusCode::NOT_FOUND, "NOT_FOUND"},
    {absl::StatusCode::kAlreadyExists, grpc::StatusCode::ALREADY_EXISTS,
     "ALREADY_EXISTS"},
    {absl::StatusCode::kPermissionDenied, grpc::StatusCode::PERMISSION_DENIED,
     "PERMISSION_DENIED"},
    {absl::StatusCode::kResourceExhausted, grpc::StatusCode::RESOURCE_EXHAUSTED,
     "RESOURCE_EXHAUSTED"},
    {absl::StatusCode::kFailedPrecondition,
     grpc::StatusCode::FAILED_PRECONDITION, "FAILED_PRECONDITION"},
    {absl::StatusCode::kAborted, grpc::StatusCode::ABORTED, "ABORTED"},
    {absl::StatusCode::kOutOfRange, grpc::StatusCode::OUT_OF_RANGE,
     "OUT_OF_RANGE"},
    {absl::StatusCode::kUnimplemented, grpc::StatusCode::UNIMPLEMENTED,
     "UNIMPLEMENTED"},
    {absl::StatusCode::kInternal, grpc::StatusCode::INTERNAL, "INTERNAL"},
    {absl::StatusCode::kUnavailable, grpc::StatusCode::UNAVAILABLE,
     "UNAVAILABLE"},
    {absl::StatusCode::kDataLoss, grpc::StatusCode::DATA_LOSS, "DATA_LOSS"},
    {absl::StatusCode::kUnauthenticated, grpc::StatusCode::UNAUTHENTICATED,
     "UNAUTHENTICATED"},
};

TEST(StatusTranslationTest, All17Codes) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_OK(FromGrpc(grpc::Status::OK));
  static_assert(std::size(kTable) == 16);
  for (const Row& row : kTable) {
    const grpc::Status status = ToGrpc(absl::Status(row.absl_code, "why"));
    EXPECT_EQ(status.error_code(), row.grpc_code) << row.reason;
    EXPECT_EQ(status.error_message(), "why");
    const absl::Status back = FromGrpc(status);
    EXPECT_THAT(back, StatusIs(row.absl_code, "why"));
    EXPECT_EQ(GetErrorDetail(back).reason, row.reason);
    // As from a server that is not ours.
    EXPECT_THAT(FromGrpc(grpc::Status(row.grpc_code, "bare")),
                StatusIs(row.absl_code, "bare"));
  }
}

TEST(StatusTranslationTest, DetailIsErrorInfo) {
  const grpc::Status status =
      ToGrpc(MakeError(absl::StatusCode::kFailedPrecondition, "late",
                       {"STALE_LEASE_EPOCH", {{"epoch", "3"}}}));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), 9);
  EXPECT_EQ(details.message(), "late");
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(),
            "type.googleapis.com/google.rpc.ErrorInfo");
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "STALE_LEASE_EPOCH");
  EXPECT_EQ(info.domain(), "sinklora");
  EXPECT_EQ(info.metadata().at("epoch"), "3");
  EXPECT_EQ(GetErrorDetail(FromGrpc(status)).metadata.at("epoch"), "3");
}

TEST(StatusTranslationTest, LongAndBrokenTextIsMadeFitToSend) {
  std::string message(1023, 'x');
  message += "\xc3\xa4";  // would be cut in the middle
  const grpc::Status cut = ToGrpc(absl::InternalError(message));
  EXPECT_EQ(cut.error_message(), std::string(1023, 'x'));

  const grpc::Status cleaned = ToGrpc(
      MakeError(absl::StatusCode::kInvalidArgument,
                "line \xff\xc3 \xc3\xa4 \xe2\x82\xac", {"R", {{"v", "\xfe"}}}));
  EXPECT_EQ(cleaned.error_message(), "line ?? \xc3\xa4 \xe2\x82\xac");
  EXPECT_EQ(GetErrorDetail(FromGrpc(cleaned)).metadata.at("v"), "?");

  ErrorDetail huge{"R", {}};
  for (int i = 0; i < 1000; ++i) {
    huge.metadata[std::to_string(i)] = std::string(5000, 'v');
  }
  const grpc::Status bounded =
      ToGrpc(MakeError(absl::StatusCode::kInternal, message, huge));
  EXPECT_LT(bounded.error_details().size(), 4096u);
  EXPECT_EQ(GetErrorDetail(FromGrpc(bounded)).reason, "R");
}

TEST(StatusTranslationTest, ForeignDetailsAreIgnored) {
  const absl::Status garbage = FromGrpc(
      grpc::Status(grpc::StatusCode::ABORTED, "m", "\xff\xff garbage"));
  EXPECT_THAT(garbage, StatusIs(absl::StatusCode::kAborted, "m"));
  EXPECT_EQ(GetErrorDetail(garbage).reason, "");
  google::rpc::ErrorInfo info;
  info.set_domain("example.org");
  info.set_reason("X");
  google::rpc::Status details;
  details.add_details()->PackFrom(info);
  const absl::Status foreign = FromGrpc(grpc::Status(
      grpc::StatusCode::ABORTED, "m", details.SerializeAsString()));
  EXPECT_EQ(GetErrorDetail(foreign).reason, "");
}

}  // namespace
}  // namespace sinklora
