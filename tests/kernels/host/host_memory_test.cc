// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/host/host_allocator.h"

namespace sinklora::kernels {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(root_ + "/a/b"); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Limit(const std::string& cgroup, const std::string& value) const {
    std::ofstream(root_ + cgroup + "/memory.max") << value << "\n";
  }
  int64_t Of(const std::string& cgroup) const {
    return CgroupLimitBytes(root_, cgroup, 1000);
  }
  const std::string root_ =
      ::testing::TempDir() + "cgroup_" +
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(CgroupTest, WithoutALimitTheMachineIsTheLimit) {
  EXPECT_EQ(Of("/a/b"), 1000);
  EXPECT_EQ(Of("/"), 1000);
  Limit("/a/b", "max");
  EXPECT_EQ(Of("/a/b"), 1000);
}

TEST_F(CgroupTest, TheLeastOfAGroupAndItsParentsCounts) {
  Limit("/a/b", "700");
  Limit("/a", "500");
  EXPECT_EQ(Of("/a/b"), 500);
  Limit("/a/b", "300");
  EXPECT_EQ(Of("/a/b"), 300);
  EXPECT_EQ(Of("/a"), 500);
  Limit("", "200");
  EXPECT_EQ(Of("/a/b"), 200);
  EXPECT_EQ(Of("/"), 200);
}

TEST_F(CgroupTest, ALimitBeyondTheMachineIsNone) {
  Limit("/a", "9000");
  EXPECT_EQ(Of("/a"), 1000);
}

TEST(HostAllocatorTest, WhatIsHandedOutInAllHasALimit) {
  HostAllocator allocator(/*max_pooled_bytes=*/0);
  EXPECT_EQ(allocator.limit_bytes(), HostMemoryBytes());
  // Nothing is touched, so nothing is really taken.
  const int64_t half = allocator.limit_bytes() / 2 + 1;
  void* first = nullptr;
  void* second = nullptr;
  ASSERT_TRUE(allocator.Allocate(half, &first).ok());
  const Status status = allocator.Allocate(half, &second);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(std::to_string(half)), std::string::npos)
      << status.message();
  EXPECT_EQ(allocator.allocated_bytes(), half);
  allocator.Free(first, half);
  ASSERT_TRUE(allocator.Allocate(half, &second).ok());
  allocator.Free(second, half);
}

}  // namespace
}  // namespace sinklora::kernels
