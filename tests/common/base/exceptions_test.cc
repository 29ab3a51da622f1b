// SPDX-License-Identifier: Apache-2.0
#include "common/base/exceptions.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using testing::StatusIs;

TEST(ExceptionsTest, StatusesPassThrough) {
  std::string what = "old";
  EXPECT_OK(CatchExceptions([] { return absl::OkStatus(); }, &what));
  EXPECT_EQ(what, "");
  EXPECT_THAT(
      CatchExceptions([] { return absl::DataLossError("lost"); }, &what),
      StatusIs(absl::StatusCode::kDataLoss, "lost"));
  EXPECT_EQ(what, "");
}

TEST(ExceptionsTest, OutOfMemoryIsResourceExhausted) {
  std::string what;
  const absl::Status status =
      CatchExceptions([]() -> absl::Status { throw std::bad_alloc(); }, &what);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(GetErrorDetail(status).reason, "OUT_OF_MEMORY");
  EXPECT_EQ(what, "out of memory");
}

TEST(ExceptionsTest, OthersAreInternalAndKeepTheirDetails) {
  std::string what;
  EXPECT_THAT(
      CatchExceptions(
          []() -> absl::Status { throw std::runtime_error("/secret"); }, &what),
      StatusIs(absl::StatusCode::kInternal, "internal error"));
  EXPECT_EQ(what, "exception: /secret");
  EXPECT_THAT(CatchExceptions([]() -> absl::Status { throw 7; }, &what),
              StatusIs(absl::StatusCode::kInternal, "internal error"));
  EXPECT_EQ(what, "exception of unknown type");
}

}  // namespace
}  // namespace sinklora
