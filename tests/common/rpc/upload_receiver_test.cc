// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/upload_receiver.h"

#include <fmt/format.h>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class UploadReceiverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
    ASSERT_OK_AND_ASSIGN(
        disk_, DiskBudget::Create(dir_->path(), /*reserve_bytes=*/10,
                                  [](const std::string&) { return 110; }));
  }
  absl::StatusOr<std::unique_ptr<UploadReceiver>> Make(
      int64_t file_count, int64_t total_bytes, int64_t max_total_bytes = 1000) {
    common::v1::TransferSize size;
    size.set_file_count(file_count);
    size.set_total_bytes(total_bytes);
    return UploadReceiver::Create(dir_->path(), size, disk_.get(),
                                  max_total_bytes);
  }
  static common::v1::FileChunk File(const std::string& path,
                                    const std::string& data) {
    common::v1::FileChunk chunk;
    chunk.set_path(path);
    chunk.set_data(data);
    chunk.set_last(true);
    chunk.set_sha256(Sha256Hex(data));
    return chunk;
  }
  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<DiskBudget> disk_;
};

TEST_F(UploadReceiverTest, ExactlyWhatWasAnnouncedIsWhole) {
  ASSERT_OK_AND_ASSIGN(const auto receiver, Make(2, 5));
  ASSERT_OK(receiver->Accept(File("a", "12345")));
  ASSERT_OK(receiver->Accept(File("empty", "")));
  EXPECT_OK(receiver->Finish());
  EXPECT_EQ(receiver->received().size(), 2u);
  ASSERT_OK_AND_ASSIGN(const auto size,
                       MeasureFiles(dir_->path(), {"a", "empty"}));
  EXPECT_EQ(size.file_count(), 2);
  EXPECT_EQ(size.total_bytes(), 5);
}

TEST_F(UploadReceiverTest, AnEndBetweenTwoFilesIsNotTheEnd) {
  // The last file missing; it may well be an empty one.
  for (const int64_t total_bytes : {5, 8}) {
    ASSERT_OK_AND_ASSIGN(const auto receiver, Make(2, total_bytes));
    ASSERT_OK(receiver->Accept(File(fmt::format("a{}", total_bytes), "12345")));
    const absl::Status cut = receiver->Finish();
    EXPECT_THAT(cut, StatusIs(absl::StatusCode::kDataLoss,
                              HasSubstr("1 files and 5 bytes")));
    EXPECT_EQ(GetErrorDetail(cut).reason, "TRANSFER_INCOMPLETE");
  }
  ASSERT_OK_AND_ASSIGN(const auto nothing, Make(1, 0));
  EXPECT_THAT(nothing->Finish(), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK_AND_ASSIGN(const auto shorter, Make(1, 6));
  ASSERT_OK(shorter->Accept(File("b", "12345")));
  EXPECT_THAT(shorter->Finish(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(UploadReceiverTest, MoreThanWasAnnouncedIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto bytes, Make(1, 4));
  EXPECT_THAT(bytes->Accept(File("a", "12345")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const auto files, Make(1, 4));
  ASSERT_OK(files->Accept(File("b", "1234")));
  ASSERT_OK(files->Accept(File("c", "")));
  EXPECT_THAT(files->Finish(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(UploadReceiverTest, AnnouncementsAreChecked) {
  for (const int64_t file_count : {0, -1, 10'001}) {
    EXPECT_THAT(Make(file_count, 1),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(fmt::format("{} files", file_count))));
  }
  EXPECT_THAT(Make(1, -1), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Make(1, 51, 50),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("51"), HasSubstr("50"))));
}

TEST_F(UploadReceiverTest, RoomIsSetAsideBeforeTheFirstByte) {
  ASSERT_OK_AND_ASSIGN(auto first, Make(1, 60));
  const auto second = Make(1, 41);
  EXPECT_EQ(GetErrorDetail(second.status()).reason, "STORAGE_LOW");
  EXPECT_OK(Make(1, 40));
  // What was written is no longer set aside.
  ASSERT_OK(first->Accept(File("a", std::string(20, 'x'))));
  EXPECT_OK(Make(1, 60));
  EXPECT_FALSE(Make(1, 61).ok());
  first.reset();
  EXPECT_OK(Make(1, 100));
}

}  // namespace
}  // namespace sinklora
