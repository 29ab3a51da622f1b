// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

TEST(GgufFileTypeTest, NamesGoBothWays) {
  for (const GgufFileType type : {GgufFileType::kF32, GgufFileType::kF16,
                                  GgufFileType::kBf16, GgufFileType::kQ80}) {
    ASSERT_OK_AND_ASSIGN(const GgufFileType parsed,
                         ParseGgufFileType(GgufFileTypeName(type)));
    EXPECT_EQ(parsed, type);
  }
  EXPECT_EQ(ParseGgufFileType("BF16").value(), GgufFileType::kBf16);
}

TEST(GgufFileTypeTest, OthersAreRefusedWithTheList) {
  EXPECT_THAT(ParseGgufFileType("q4_k_m"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'q4_k_m' is not supported, must be f32, f16, "
                                 "bf16 or q8_0")));
}

}  // namespace
}  // namespace sinklora
