// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::IsEmpty;

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}

absl::StatusOr<int> Quarter(int x) {
  SL_ASSIGN_OR_RETURN(const int half, Half(x));
  SL_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(StatusTest, MacrosReturnTheFirstError) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
  const auto wrap = [](const absl::Status& status) {
    SL_RETURN_IF_ERROR(status);
    return absl::CancelledError("reached the end");
  };
  EXPECT_THAT(wrap(absl::OkStatus()), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(wrap(absl::AbortedError("x")),
              StatusIs(absl::StatusCode::kAborted));
}

TEST(StatusTest, KernelCodes) {
  using kernels::StatusCode;
  const std::vector<std::pair<StatusCode, absl::StatusCode>> table = {
      {StatusCode::kInvalidArgument, absl::StatusCode::kInvalidArgument},
      {StatusCode::kUnimplemented, absl::StatusCode::kUnimplemented},
      {StatusCode::kResourceExhausted, absl::StatusCode::kResourceExhausted},
      {StatusCode::kUnavailable, absl::StatusCode::kUnavailable},
      {StatusCode::kInternal, absl::StatusCode::kInternal}};
  for (const auto& [kernel, absl_code] : table) {
    EXPECT_THAT(ToAbsl(kernels::Status(kernel, "m")), StatusIs(absl_code, "m"));
  }
  EXPECT_OK(ToAbsl(kernels::OkStatus()));
}

TEST(StatusTest, DetailSurvivesWithAnyBytes) {
  const ErrorDetail detail = {
      "SOME_REASON", {{"a", "1:2\n"}, {"", std::string("\0x", 2)}, {"b", ""}}};
  const absl::Status status =
      MakeError(absl::StatusCode::kNotFound, "gone", detail);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, "gone"));
  EXPECT_EQ(GetErrorDetail(status).reason, detail.reason);
  EXPECT_EQ(GetErrorDetail(status).metadata, detail.metadata);
  EXPECT_THAT(GetErrorDetail(absl::InternalError("x")).reason, IsEmpty());
  EXPECT_THAT(GetErrorDetail(absl::OkStatus()).reason, IsEmpty());
}

TEST(StatusTest, AnnotateKeepsCodeAndDetail) {
  const absl::Status status = Annotate(
      MakeError(absl::StatusCode::kDataLoss, "bad", {"WHY", {}}), "file f");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "file f: bad"));
  EXPECT_EQ(GetErrorDetail(status).reason, "WHY");
  EXPECT_OK(Annotate(absl::OkStatus(), "file f"));
}

}  // namespace
}  // namespace sinklora
