// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/address.h"

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AddressTest, LoopbackIsAccepted) {
  for (const char* address :
       {"127.0.0.1:0", "127.1.2.3:65535", "localhost:80", "[::1]:50051"}) {
    EXPECT_OK(ValidateListenAddress("--listen", address, false)) << address;
  }
}

TEST(AddressTest, OthersNeedPermission) {
  for (const char* address : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1",
                              "127.example.org:1", "example.org:1"}) {
    EXPECT_THAT(ValidateListenAddress("--listen", address, false),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--listen"), HasSubstr(address))));
    EXPECT_OK(ValidateListenAddress("--listen", address, true)) << address;
  }
}

TEST(AddressTest, MalformedIsRefusedAlways) {
  for (const char* address :
       {"", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
        "127.0.0.1:-1", "127.0.0.1:80 "}) {
    EXPECT_THAT(ValidateListenAddress("--listen", address, true),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << address;
  }
}

TEST(AddressTest, Host) {
  EXPECT_EQ(HostOf("127.0.0.1:5"), "127.0.0.1");
  EXPECT_EQ(HostOf("[::1]:5"), "[::1]");
  EXPECT_EQ(HostOf("none"), "");
}

}  // namespace
}  // namespace sinklora
