// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/file_transfer.h"

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FileTransferTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(from_, TempDir::Create());
    ASSERT_OK_AND_ASSIGN(to_, TempDir::Create());
  }
  static common::v1::FileChunk Chunk(const std::string& path,
                                     const std::string& data, bool last) {
    common::v1::FileChunk chunk;
    chunk.set_path(path);
    chunk.set_data(data);
    chunk.set_last(last);
    if (last) chunk.set_sha256(Sha256Hex(data));
    return chunk;
  }
  std::vector<std::string> ReceivedFiles() {
    return ListFilesRecursive(to_->path()).value();
  }
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  std::unique_ptr<TempDir> from_;
  std::unique_ptr<TempDir> to_;
};

TEST_F(FileTransferTest, FilesOfAllSizesArriveAsTheyWere) {
  const std::vector<std::pair<std::string, int64_t>> sizes = {
      {"empty", 0},
      {"d/one", 1},
      {"d/e/chunk", kFileChunkBytes},
      {"more", 2 * kFileChunkBytes + 1}};
  std::vector<std::string> paths;
  for (const auto& [path, size] : sizes) {
    const std::string file = JoinPath(from_->path(), path);
    ASSERT_OK(MakeDirs(file.substr(0, file.rfind('/'))));
    std::string content(size, '\0');
    for (int64_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31);
    ASSERT_OK(WriteFileAtomic(file, content));
    paths.push_back(path);
  }
  FileReceiver receiver(to_->path(), kNoLimit);
  int chunks = 0;
  ASSERT_OK(SendFiles(from_->path(), paths, [&](common::v1::FileChunk chunk) {
    ++chunks;
    return receiver.Accept(chunk).ok();
  }));
  ASSERT_OK(receiver.Finish());
  EXPECT_EQ(chunks, 1 + 1 + 1 + 3);
  ASSERT_EQ(receiver.received().size(), sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    const FileReceiver::Received& received = receiver.received()[i];
    EXPECT_EQ(received.path, sizes[i].first);
    EXPECT_EQ(received.size_bytes, sizes[i].second);
    const std::string sent =
        ReadFile(JoinPath(from_->path(), received.path)).value();
    EXPECT_EQ(ReadFile(JoinPath(to_->path(), received.path)).value(), sent);
    EXPECT_EQ(received.sha256, Sha256Hex(sent));
  }
}

TEST_F(FileTransferTest, SenderErrors) {
  const auto accept = [](const common::v1::FileChunk&) { return true; };
  EXPECT_THAT(SendFiles(from_->path(), {"absent"}, accept),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(SendFiles(from_->path(), {"../x"}, accept),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "f"), "x"));
  EXPECT_THAT(SendFiles(from_->path(), {"f"},
                        [](const common::v1::FileChunk&) { return false; }),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("f")));
}

TEST_F(FileTransferTest, SendsTheRestOfAFile) {
  std::string content(2 * kFileChunkBytes + 5, '\0');
  for (size_t i = 0; i < content.size(); ++i) {
    content[i] = static_cast<char>(i * 31);
  }
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "f"), content));
  const auto size = static_cast<int64_t>(content.size());
  for (const int64_t offset : {int64_t{0}, kFileChunkBytes + 3, size}) {
    std::string rest;
    std::string sha256;
    ASSERT_OK(SendFileParts(
        from_->path(), {{"f", offset, ""}},
        [&](const common::v1::FileChunk& chunk) {
          EXPECT_EQ(chunk.offset(), offset + static_cast<int64_t>(rest.size()));
          rest += chunk.data();
          sha256 = chunk.sha256();
          return true;
        }));
    EXPECT_EQ(rest, content.substr(static_cast<size_t>(offset)));
    EXPECT_EQ(sha256, Sha256Hex(content));  // of the whole file
  }
  const auto ignore = [](const common::v1::FileChunk&) { return true; };
  for (const int64_t offset : {int64_t{-1}, size + 1}) {
    const absl::Status status =
        SendFileParts(from_->path(), {{"f", offset, ""}}, ignore);
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("f")));
    EXPECT_EQ(GetErrorDetail(status).reason, "OFFSET_OUT_OF_RANGE");
  }
}

TEST_F(FileTransferTest, AFileThatHasRottedIsFoundOutByTheReceiver) {
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "f"), "rotten"));
  FileReceiver receiver(to_->path(), kNoLimit);
  absl::Status accepted;
  ASSERT_OK(SendFileParts(from_->path(), {{"f", 0, Sha256Hex("fresh")}},
                          [&](const common::v1::FileChunk& chunk) {
                            accepted = receiver.Accept(chunk);
                            return true;
                          }));
  EXPECT_THAT(accepted, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("f")));
}

TEST_F(FileTransferTest, RefusesChunksOutOfOrder) {
  FileReceiver receiver(to_->path(), kNoLimit);
  ASSERT_OK(receiver.Accept(Chunk("f", "12", false)));
  common::v1::FileChunk later = Chunk("f", "5", true);
  later.set_offset(4);
  EXPECT_THAT(receiver.Accept(later),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at offset 4, the next one is at 2")));
}

TEST_F(FileTransferTest, RefusesUnsafePaths) {
  for (const char* path : {"../evil", "/etc/evil", "a/../../evil", ""}) {
    FileReceiver receiver(JoinPath(to_->path(), "root"), kNoLimit);
    const absl::Status status = receiver.Accept(Chunk(path, "x", true));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << path;
    EXPECT_EQ(GetErrorDetail(status).reason, "UNSAFE_PATH");
  }
  EXPECT_THAT(ReceivedFiles(), IsEmpty());
}

TEST_F(FileTransferTest, RefusesAWrongChecksum) {
  FileReceiver receiver(to_->path(), kNoLimit);
  common::v1::FileChunk chunk = Chunk("f", "data", true);
  chunk.set_data("dat4");
  EXPECT_THAT(receiver.Accept(chunk),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("f")));
  EXPECT_THAT(ReceivedFiles(), IsEmpty());
  EXPECT_THAT(receiver.received(), IsEmpty());
}

TEST_F(FileTransferTest, RefusesInterleavedAndRepeatedFiles) {
  FileReceiver receiver(to_->path(), kNoLimit);
  ASSERT_OK(receiver.Accept(Chunk("a", "1", false)));
  EXPECT_THAT(receiver.Accept(Chunk("b", "2", true)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  FileReceiver other(to_->path(), kNoLimit);
  ASSERT_OK(other.Accept(Chunk("a", "1", true)));
  EXPECT_THAT(other.Accept(Chunk("a", "1", true)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("twice")));
  // A file cannot be below another file.
  EXPECT_FALSE(other.Accept(Chunk("a/b", "1", true)).ok());
}

TEST_F(FileTransferTest, LimitsHold) {
  FileReceiver receiver(to_->path(), /*max_total_bytes=*/10);
  ASSERT_OK(receiver.Accept(Chunk("a", "123456", true)));
  const absl::Status over = receiver.Accept(Chunk("b", "12345", true));
  EXPECT_THAT(over,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("10")));
  EXPECT_EQ(GetErrorDetail(over).reason, "TRANSFER_TOO_LARGE");
  FileReceiver chunked(to_->path(), kNoLimit);
  EXPECT_THAT(
      chunked.Accept(Chunk("c", std::string(kFileChunkBytes + 1, 'x'), true)),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ReceivedFiles(), ElementsAre("a"));
}

TEST_F(FileTransferTest, EndInTheMiddleIsDataLoss) {
  FileReceiver receiver(to_->path(), kNoLimit);
  ASSERT_OK(receiver.Accept(Chunk("whole", "1", true)));
  ASSERT_OK(receiver.Accept(Chunk("part", "1", false)));
  EXPECT_THAT(receiver.Finish(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("part")));
  EXPECT_THAT(ReceivedFiles(), ElementsAre("whole"));
}

}  // namespace
}  // namespace sinklora
