// SPDX-License-Identifier: Apache-2.0
#include "common/base/ids.h"

#include <set>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(IdsTest, ValidIds) {
  for (const std::string id : {"a", "a1", "job-1", "a--b"}) {
    EXPECT_OK(ValidateId("job", id)) << id;
  }
  EXPECT_OK(ValidateId("job", std::string(63, 'a')));
}

TEST(IdsTest, InvalidIds) {
  for (const std::string id : {"", "1a", "-a", "a-", "A", "a_b", "a/b", "..",
                               "a.b", "a b", "\xc3\xa4"}) {
    EXPECT_THAT(ValidateId("job", id),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("job"), HasSubstr("'" + id + "'"))))
        << id;
  }
  const absl::Status too_long = ValidateId("job", std::string(64, 'a'));
  EXPECT_THAT(too_long, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(GetErrorDetail(too_long).reason, "INVALID_ID");
}

TEST(IdsTest, NewIdsAreValidAndDiffer) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewId("job");
    EXPECT_THAT(id, MatchesRegex("job-[a-z0-9]{12}"));
    EXPECT_OK(ValidateId("job", id));
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 1000u);
}

TEST(IdsTest, RequestIdsAreUuids) {
  EXPECT_THAT(NewRequestId(),
              MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-"
                           "[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(NewRequestId(), NewRequestId());
}

}  // namespace
}  // namespace sinklora
