// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/file_fetch.h"

#include <map>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// A peer that has the files of a directory, keeps what it was asked for, and
// can be cut off.
class FileFetchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(from_, TempDir::Create());
    ASSERT_OK_AND_ASSIGN(to_, TempDir::Create());
    target_ = JoinPath(to_->path(), "target");
    Add("a", "small");
    Add("big", std::string(2 * kFileChunkBytes + 17, 'b'));
    Add("d/empty", "");
  }

  void Add(const std::string& path, const std::string& content) {
    const std::string file = JoinPath(from_->path(), path);
    ASSERT_OK(MakeDirs(file.substr(0, file.rfind('/'))));
    ASSERT_OK(WriteFileAtomic(file, content));
    common::v1::FileInfo info;
    info.set_path(path);
    info.set_size_bytes(static_cast<int64_t>(content.size()));
    info.set_sha256(Sha256Hex(content));
    files_.push_back(info);
    contents_[path] = content;
  }

  // One call, cut with `cut` before chunk number `chunks_before_cut_` of all
  // that are sent.
  absl::Status Call(const std::vector<common::v1::FileOffset>& wanted,
                    const OnFileChunk& on_chunk) {
    asked_.emplace_back();
    std::vector<FileToSend> files;
    for (const auto& file : wanted) {
      asked_.back().emplace_back(file.path(), file.offset());
      files.push_back({file.path(), file.offset(), ""});
    }
    absl::Status status;
    const absl::Status sent =
        SendFileParts(from_->path(), files, [&](common::v1::FileChunk chunk) {
          if (chunks_before_cut_ == 0) {
            status = cut_;
            return false;
          }
          --chunks_before_cut_;
          status = on_chunk(chunk);
          return status.ok();
        });
    return status.ok() ? sent : status;
  }

  absl::Status Fetch() {
    return FetchFiles(target_, files_,
                      [this](const auto& wanted, const auto& on_chunk) {
                        return Call(wanted, on_chunk);
                      });
  }

  void ExpectAllThere() {
    std::map<std::string, std::string> found;
    ASSERT_OK_AND_ASSIGN(const auto paths, ListFilesRecursive(target_));
    for (const std::string& path : paths) {
      ASSERT_OK_AND_ASSIGN(found[path], ReadFile(JoinPath(target_, path)));
    }
    EXPECT_EQ(found, contents_);
  }

  std::string PartOf(const std::string& path) {
    return JoinPath(target_, ".part-" + Sha256Hex(contents_.at(path)));
  }

  std::unique_ptr<TempDir> from_;
  std::unique_ptr<TempDir> to_;
  std::string target_;
  std::vector<common::v1::FileInfo> files_;
  std::map<std::string, std::string> contents_;
  int chunks_before_cut_ = -1;  // never
  absl::Status cut_ = absl::UnavailableError("cut");
  // (path, offset) of every call.
  std::vector<std::vector<std::pair<std::string, int64_t>>> asked_;
};

TEST_F(FileFetchTest, FetchesEverythingOnce) {
  ASSERT_OK(Fetch());
  ExpectAllThere();
  ASSERT_OK(Fetch());  // nothing is missing
  EXPECT_THAT(asked_, ElementsAre(ElementsAre(Pair("a", 0), Pair("big", 0),
                                              Pair("d/empty", 0))));
}

TEST_F(FileFetchTest, GoesOnWhereTheConnectionBroke) {
  chunks_before_cut_ = 3;  // a, and two chunks of big
  const auto call = [this](const auto& wanted, const auto& on_chunk) {
    const absl::Status status = Call(wanted, on_chunk);
    chunks_before_cut_ = -1;
    return status;
  };
  ASSERT_OK(FetchFiles(target_, files_, call));
  ExpectAllThere();
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_THAT(asked_[1], ElementsAre(Pair("big", 2 * kFileChunkBytes),
                                     Pair("d/empty", 0)));
}

TEST_F(FileFetchTest, GoesOnInALaterProcess) {
  for (const absl::Status& cut :
       {absl::CancelledError("stop"), absl::DeadlineExceededError("late")}) {
    chunks_before_cut_ = 2;
    cut_ = cut;
    const absl::Status status = Fetch();
    EXPECT_EQ(status, cut);
    EXPECT_TRUE(MayResume(status));
  }
  chunks_before_cut_ = -1;
  ASSERT_OK(Fetch());
  ExpectAllThere();
  ASSERT_EQ(asked_.size(), 3u);
  EXPECT_THAT(asked_[1],
              ElementsAre(Pair("big", kFileChunkBytes), Pair("d/empty", 0)));
  // Two chunks: the rest of big, all of it but the empty file.
  EXPECT_THAT(asked_[2], ElementsAre(Pair("d/empty", 0)));
}

TEST_F(FileFetchTest, AConnectionThatBringsNothingIsAnError) {
  chunks_before_cut_ = 0;
  EXPECT_THAT(Fetch(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(asked_.size(), 1u);
}

TEST_F(FileFetchTest, DamagedPartsAreFoundOutAndFetchedAgain) {
  chunks_before_cut_ = 2;
  cut_ = absl::CancelledError("stop");
  ASSERT_FALSE(Fetch().ok());
  ASSERT_OK_AND_ASSIGN(std::string part, ReadFile(PartOf("big")));
  ASSERT_EQ(part.size(), static_cast<size_t>(kFileChunkBytes));
  part[1000] ^= 1;
  ASSERT_OK(WriteFileAtomic(PartOf("big"), part));
  chunks_before_cut_ = -1;
  ASSERT_OK(Fetch());
  ExpectAllThere();
  ASSERT_EQ(asked_.size(), 3u);
  EXPECT_THAT(asked_[1][0], Pair("big", kFileChunkBytes));
  EXPECT_THAT(asked_[2][0], Pair("big", 0));
}

TEST_F(FileFetchTest, PartsThatAreTooLongAreThrownAway) {
  ASSERT_OK(MakeDirs(target_));
  ASSERT_OK(WriteFileAtomic(PartOf("a"), "smaller than it should be"));
  ASSERT_OK(Fetch());
  ExpectAllThere();
  EXPECT_THAT(asked_[0][0], Pair("a", 0));
}

TEST_F(FileFetchTest, DamagedFilesAreFetchedAgain) {
  ASSERT_OK(Fetch());
  ASSERT_OK(WriteFileAtomic(JoinPath(target_, "a"), "smell"));  // same size
  ASSERT_OK(WriteFileAtomic(JoinPath(target_, "d/empty"), "not"));
  ASSERT_OK(Fetch());
  ExpectAllThere();
  EXPECT_THAT(asked_[1], ElementsAre(Pair("a", 0), Pair("d/empty", 0)));
}

TEST_F(FileFetchTest, WhatIsNotListedIsRemoved) {
  ASSERT_OK(MakeDirs(JoinPath(target_, "x")));
  ASSERT_OK(WriteFileAtomic(JoinPath(target_, "x/stranger"), "?"));
  ASSERT_OK(WriteFileAtomic(JoinPath(target_, ".part-0123"), "?"));
  ASSERT_OK(Fetch());
  ExpectAllThere();
}

TEST_F(FileFetchTest, OtherContentThanListedIsDataLossAndIsNotKept) {
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "a"), "sMall"));
  const absl::Status status = Fetch();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                               HasSubstr(Sha256Hex("sMall"))));
  EXPECT_EQ(GetErrorDetail(status).reason, "CHECKSUM_MISMATCH");
  EXPECT_FALSE(MayResume(status));
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "a"), "longer"));
  EXPECT_THAT(Fetch(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a")));
  EXPECT_THAT(*ListFilesRecursive(target_),
              ElementsAre(HasSubstr(".part-")));  // of "longer": not trusted
  ASSERT_OK(WriteFileAtomic(JoinPath(from_->path(), "a"), "small"));
  ASSERT_OK(Fetch());
  ExpectAllThere();
}

TEST_F(FileFetchTest, APeerThatStopsEarlyOrSendsTheWrongThingIsRefused) {
  const auto fetch = [this](const std::vector<common::v1::FileChunk>& chunks) {
    return FetchFiles(target_, files_,
                      [&](const auto&, const auto& on_chunk) -> absl::Status {
                        for (const auto& chunk : chunks) {
                          SL_RETURN_IF_ERROR(on_chunk(chunk));
                        }
                        return absl::OkStatus();
                      });
  };
  EXPECT_EQ(GetErrorDetail(fetch({})).reason, "TRANSFER_INCOMPLETE");
  common::v1::FileChunk chunk;
  chunk.set_path("a");
  chunk.set_data("sm");
  EXPECT_EQ(GetErrorDetail(fetch({chunk})).reason, "TRANSFER_INCOMPLETE");
  chunk.set_path("stranger");
  EXPECT_THAT(fetch({chunk}), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("not asked for")));
  chunk.set_path("big");
  chunk.set_offset(5);
  EXPECT_THAT(fetch({chunk}), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("offset 5")));
}

TEST_F(FileFetchTest, ListsThatCannotBeFilesAreRefused) {
  for (const char* path : {"../evil", "/etc/evil", "", ".part-x", "a"}) {
    auto files = files_;
    files.emplace_back().set_path(path);
    EXPECT_THAT(
        FetchFiles(target_, files,
                   [](const auto&, const auto&) { return absl::OkStatus(); }),
        StatusIs(absl::StatusCode::kInvalidArgument))
        << path;
  }
  EXPECT_THAT(*ListFilesRecursive(to_->path()), IsEmpty());
}

}  // namespace
}  // namespace sinklora
