// SPDX-License-Identifier: Apache-2.0
#include "common/base/disk_budget.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

// A disk whose free bytes the test sets.
class DiskBudgetTest : public ::testing::Test {
 protected:
  std::unique_ptr<DiskBudget> Budget(int64_t reserve_bytes) {
    auto budget = DiskBudget::Create(
        "/data", reserve_bytes,
        [this](const std::string& directory) -> absl::StatusOr<int64_t> {
          EXPECT_EQ(directory, "/data");
          return free_bytes_;
        });
    EXPECT_OK(budget);
    return *std::move(budget);
  }
  int64_t free_bytes_ = 1000;
};

TEST_F(DiskBudgetTest, TheReserveIsNeverGivenAway) {
  const auto budget = Budget(/*reserve_bytes=*/100);
  EXPECT_OK(budget->Reserve(900));
  const auto refused = budget->Reserve(901);
  EXPECT_THAT(refused,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("/data"), HasSubstr("1000 bytes free"),
                             HasSubstr("100 are kept in reserve"),
                             HasSubstr("901 bytes do not fit"))));
  EXPECT_EQ(GetErrorDetail(refused.status()).reason, "STORAGE_LOW");
}

TEST_F(DiskBudgetTest, TwoWritersDoNotGetTheSameBytes) {
  const auto budget = Budget(/*reserve_bytes=*/100);
  ASSERT_OK_AND_ASSIGN(auto first, budget->Reserve(600));
  EXPECT_THAT(budget->Reserve(400),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("600 are set aside")));
  EXPECT_OK(budget->Reserve(300));
  first.reset();
  EXPECT_OK(budget->Reserve(900));
}

TEST_F(DiskBudgetTest, WrittenBytesAreCountedOnce) {
  const auto budget = Budget(/*reserve_bytes=*/100);
  ASSERT_OK_AND_ASSIGN(auto first, budget->Reserve(600));
  free_bytes_ -= 500;
  first->Written(500);
  // 500 free, 100 of them set aside, 100 in reserve.
  EXPECT_OK(budget->Reserve(300));
  EXPECT_FALSE(budget->Reserve(301).ok());
  // More than was set aside takes nothing from others.
  ASSERT_OK_AND_ASSIGN(const auto second, budget->Reserve(300));
  first->Written(1000);
  first.reset();
  EXPECT_OK(budget->Reserve(100));
  EXPECT_FALSE(budget->Reserve(101).ok());
}

TEST_F(DiskBudgetTest, RoomIsAtLeastOneByte) {
  const auto budget = Budget(/*reserve_bytes=*/1000);
  EXPECT_THAT(budget->CheckRoom(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  free_bytes_ = 1001;
  EXPECT_OK(budget->CheckRoom());
}

TEST_F(DiskBudgetTest, ANegativeReserveIsRefused) {
  EXPECT_THAT(DiskBudget::Create("/data", -1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
}

}  // namespace
}  // namespace sinklora
