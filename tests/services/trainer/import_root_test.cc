// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/import_root.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;
using sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// <dir>/root/model/{config.json, sub/w, .hidden}, and <dir>/secret outside.
class ImportRootTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
    Write("root/model/config.json", "{}");
    Write("root/model/sub/w", "weights");
    Write("root/model/.hidden", "no");
    Write("root/model.gguf", "GGUF");
    Write("secret", "secret");
    Write("root2/secret", "secret");
    ASSERT_OK(MakeDirs(Path("staged")));
    ASSERT_OK_AND_ASSIGN(root_, ImportRoot::Create(Path("root")));
  }

  std::string Path(const std::string& path) const {
    return JoinPath(dir_->path(), path);
  }
  void Write(const std::string& path, const std::string& content) {
    ASSERT_OK(MakeDirs(fs::path(Path(path)).parent_path().string()));
    ASSERT_OK(WriteFileAtomic(Path(path), content));
  }
  void Link(const std::string& target, const std::string& link) {
    std::error_code error;
    fs::create_symlink(target, Path(link), error);
    ASSERT_FALSE(error) << error.message();
  }
  absl::StatusOr<FileInfos> Copy(const std::string& path,
                                 int64_t max_bytes = 1 << 20) {
    SL_ASSIGN_OR_RETURN(
        const auto disk,
        DiskBudget::Create(dir_->path(), 0,
                           [&](const std::string&) -> absl::StatusOr<int64_t> {
                             return max_bytes;
                           }));
    return root_->Copy(path, Path("staged"), disk.get(), cancellation_);
  }
  std::vector<std::string> Staged() {
    return ListFilesRecursive(Path("staged")).value();
  }

  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<ImportRoot> root_;
  Cancellation cancellation_;
};

TEST_F(ImportRootTest, CopiesDirectoriesAndFiles) {
  for (const std::string& path :
       {std::string("model"), Path("root/model"), std::string("./model/"),
        std::string("model/sub/..")}) {
    ASSERT_OK_AND_ASSIGN(const auto files, Copy(path));
    ASSERT_EQ(files.size(), 2u) << path;
    EXPECT_EQ(files[0].path(), "config.json");
    EXPECT_EQ(files[1].path(), "sub/w");
    EXPECT_EQ(files[1].size_bytes(), 7);
    EXPECT_EQ(files[1].sha256(), Sha256Hex("weights"));
    EXPECT_EQ(ReadFile(Path("staged/sub/w")).value(), "weights");
    EXPECT_THAT(Staged(), ElementsAre("config.json", "sub/w"));
    ASSERT_OK(RemoveAll(Path("staged")));
    ASSERT_OK(MakeDirs(Path("staged")));
  }
  ASSERT_OK_AND_ASSIGN(const auto file, Copy("model.gguf"));
  EXPECT_THAT(Staged(), ElementsAre("model.gguf"));
  EXPECT_EQ(file[0].sha256(), Sha256Hex("GGUF"));
}

TEST_F(ImportRootTest, TheCopyIsOneNotALink) {
  ASSERT_OK(Copy("model"));
  Write("root/model/config.json", "changed");
  EXPECT_EQ(ReadFile(Path("staged/config.json")).value(), "{}");
}

TEST_F(ImportRootTest, FollowsLinksThatStayBelowTheRoot) {
  Write("root/blobs/0123", "blob");
  Link("../blobs/0123", "root/model/model.safetensors");
  Link(Path("root/model.gguf"), "root/absolute.gguf");
  ASSERT_OK(Copy("model"));
  EXPECT_EQ(ReadFile(Path("staged/model.safetensors")).value(), "blob");
  EXPECT_FALSE(fs::is_symlink(Path("staged/model.safetensors")));
  ASSERT_OK(Copy("absolute.gguf"));
  EXPECT_EQ(ReadFile(Path("staged/absolute.gguf")).value(), "GGUF");
}

TEST_F(ImportRootTest, RefusesPathsOutOfTheRoot) {
  const std::vector<std::string> outside = {
      "../secret",        "model/../../secret",
      Path("secret"),     Path("root2"),
      "../root2",         "/",
      "/etc/passwd",      "..",
      "../does/not/exist"};
  for (const std::string& path : outside) {
    const absl::Status status = Copy(path).status();
    EXPECT_THAT(status,
                StatusIs(StatusCode::kPermissionDenied, HasSubstr(path)));
    EXPECT_EQ(GetErrorDetail(status).reason, "OUTSIDE_IMPORT_ROOT");
  }
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_F(ImportRootTest, RefusesLinksOutOfTheRoot) {
  Link("../../secret", "root/model/leak");
  const absl::Status inside = Copy("model").status();
  EXPECT_THAT(inside,
              StatusIs(StatusCode::kPermissionDenied, HasSubstr("leak")));
  EXPECT_EQ(GetErrorDetail(inside).reason, "OUTSIDE_IMPORT_ROOT");
  EXPECT_THAT(Staged(), Not(::testing::Contains("leak")));

  Link("../root2", "root/way-out");
  EXPECT_THAT(Copy("way-out"),
              StatusIs(StatusCode::kPermissionDenied, HasSubstr("way-out")));
  EXPECT_THAT(Copy("way-out/secret"), StatusIs(StatusCode::kPermissionDenied));
  Link(Path("secret"), "root/file");
  EXPECT_THAT(Copy("file"), StatusIs(StatusCode::kPermissionDenied));
}

TEST_F(ImportRootTest, RefusesLinksToDirectoriesAndSpecialFiles) {
  Link("sub", "root/model/again");
  EXPECT_EQ(GetErrorDetail(Copy("model").status()).reason, "LINK_TO_DIRECTORY");
  ASSERT_OK(RemoveAll(Path("root/model/again")));
  ASSERT_EQ(mkfifo(Path("root/model/pipe").c_str(), 0600), 0);
  EXPECT_THAT(Copy("model"), StatusIs(StatusCode::kInvalidArgument,
                                      HasSubstr("pipe: not a regular file")));
}

TEST_F(ImportRootTest, NamesWhatDoesNotExist) {
  EXPECT_THAT(Copy("nothing"),
              StatusIs(StatusCode::kNotFound, HasSubstr("nothing")));
  Link("nowhere", "root/model/dangling");
  EXPECT_THAT(Copy("model"),
              StatusIs(StatusCode::kNotFound, HasSubstr("dangling")));
  ASSERT_OK(MakeDirs(Path("root/empty")));
  EXPECT_THAT(Copy("empty"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no files")));
  EXPECT_THAT(Copy(""), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(ImportRootTest, StopsAtTheLimitAndWhenCancelled) {
  const absl::Status full = Copy("model", /*max_bytes=*/6).status();
  EXPECT_THAT(full, StatusIs(StatusCode::kResourceExhausted));
  EXPECT_EQ(GetErrorDetail(full).reason, "STORAGE_LOW");
  cancellation_.Cancel();
  EXPECT_THAT(Copy("model"), StatusIs(StatusCode::kCancelled));
}

TEST_F(ImportRootTest, MustBeAllowed) {
  ASSERT_OK_AND_ASSIGN(root_, ImportRoot::Create(""));
  for (const std::string& path : {std::string("model"), Path("root/model")}) {
    const absl::Status status = Copy(path).status();
    EXPECT_THAT(status, StatusIs(StatusCode::kFailedPrecondition,
                                 HasSubstr("--import-root")));
    EXPECT_EQ(GetErrorDetail(status).reason, "IMPORT_BY_PATH_DISABLED");
  }
  EXPECT_THAT(ImportRoot::Create(Path("nothing")),
              StatusIs(StatusCode::kNotFound, HasSubstr("--import-root")));
  EXPECT_FALSE(ImportRoot::Create(Path("secret")).ok());  // a file
}

}  // namespace
}  // namespace sinklora::trainer
