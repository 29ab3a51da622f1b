// SPDX-License-Identifier: Apache-2.0
#include "common/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create()); }
  std::string Path(const std::string& name) {
    return JoinPath(temp_->path(), name);
  }
  std::vector<std::string> Files() {
    return ListFilesRecursive(temp_->path()).value();
  }
  std::unique_ptr<TempDir> temp_;
};

TEST(JoinPathTest, OneSlashBetween) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("a", ""), "a");
}

TEST_F(FilesTest, WriteThenRead) {
  const std::string content("a\0b\n", 4);
  ASSERT_OK(WriteFileAtomic(Path("f"), content));
  EXPECT_EQ(ReadFile(Path("f")).value(), content);
  EXPECT_EQ(FileSize(Path("f")).value(), 4);
  ASSERT_OK(WriteFileAtomic(Path("f"), ""));
  EXPECT_EQ(ReadFile(Path("f")).value(), "");
  EXPECT_THAT(Files(), ElementsAre("f"));
}

TEST_F(FilesTest, ReadsLargeAndProcFiles) {
  std::string large(3'000'000, 'x');
  large.back() = 'y';
  ASSERT_OK(WriteFileAtomic(Path("large"), large));
  EXPECT_EQ(ReadFile(Path("large")).value(), large);
  EXPECT_THAT(ReadFile("/proc/self/status").value(), HasSubstr("Name:"));
}

TEST_F(FilesTest, ErrorsNameThePath) {
  EXPECT_THAT(ReadFile(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(FileSize(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(MappedFile::Open(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(WriteFileAtomic(Path("no/dir/f"), "x"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/dir/f")));
  EXPECT_THAT(ListFilesRecursive(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(FileSize(temp_->path()),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(FilesTest, FullDiskIsResourceExhausted) {
  // A file whose every write fails with ENOSPC, at the name the writer would
  // use for its own.
  ASSERT_OK_AND_ASSIGN(auto writer, FileWriter::Create(Path("f")));
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  // The writer's descriptor is the newest one that refers to a regular file of
  // ours.
  int fd = -1;
  for (int candidate = 3; candidate < full + 3 && fd < 0; ++candidate) {
    const std::string link = "/proc/self/fd/" + std::to_string(candidate);
    std::error_code error;
    const auto target = std::filesystem::read_symlink(link, error);
    if (!error && target.string().find(temp_->path()) == 0) fd = candidate;
  }
  ASSERT_GE(fd, 0);
  ASSERT_EQ(dup2(full, fd), fd);
  close(full);
  const absl::Status status = writer->Append("x");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr(Path("f"))));
  EXPECT_EQ(GetErrorDetail(status).reason, "DISK_FULL");
  writer.reset();
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(FilesTest, AppendWriterKeepsWhatWasWritten) {
  {
    ASSERT_OK_AND_ASSIGN(auto writer, AppendWriter::Open(Path("part")));
    EXPECT_EQ(writer->size_bytes(), 0);
    ASSERT_OK(writer->Append("ab"));
  }
  ASSERT_OK_AND_ASSIGN(auto writer, AppendWriter::Open(Path("part")));
  EXPECT_EQ(writer->size_bytes(), 2);
  ASSERT_OK(writer->Append("cd"));
  EXPECT_EQ(writer->size_bytes(), 4);
  ASSERT_OK(writer->FinishAs(Path("whole")));
  EXPECT_EQ(ReadFile(Path("whole")).value(), "abcd");
  EXPECT_FALSE(FileExists(Path("part")));
  EXPECT_THAT(AppendWriter::Open(Path("no/such/dir")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FilesTest, MakeOnlyDirKeepsItsOwnAlone) {
  ASSERT_OK_AND_ASSIGN(const std::string dir, MakeOnlyDir(Path("p"), "mine"));
  EXPECT_EQ(dir, Path("p/mine"));
  ASSERT_OK(WriteFileAtomic(Path("p/mine/f"), "kept"));
  ASSERT_OK(MakeDirs(Path("p/other/deep")));
  ASSERT_OK(WriteFileAtomic(Path("p/file"), "x"));
  ASSERT_OK(MakeOnlyDir(Path("p"), "mine"));
  EXPECT_EQ(ReadFile(Path("p/mine/f")).value(), "kept");
  EXPECT_FALSE(FileExists(Path("p/other")));
  EXPECT_FALSE(FileExists(Path("p/file")));
}

TEST_F(FilesTest, WriterIsInvisibleUntilFinish) {
  ASSERT_OK_AND_ASSIGN(auto writer, FileWriter::Create(Path("f")));
  ASSERT_OK(writer->Append("ab"));
  ASSERT_OK(writer->Append("c"));
  EXPECT_FALSE(FileExists(Path("f")));
  EXPECT_EQ(writer->size_bytes(), 3);
  ASSERT_OK(writer->Finish());
  EXPECT_EQ(ReadFile(Path("f")).value(), "abc");
  EXPECT_THAT(writer->Append("d"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Finish(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  writer.reset();
  EXPECT_TRUE(FileExists(Path("f")));
}

TEST_F(FilesTest, AbandonedWriterLeavesNothing) {
  ASSERT_OK(WriteFileAtomic(Path("f"), "old"));
  ASSERT_OK_AND_ASSIGN(auto writer, FileWriter::Create(Path("f")));
  ASSERT_OK(writer->Append("new"));
  writer.reset();
  EXPECT_EQ(ReadFile(Path("f")).value(), "old");
  EXPECT_THAT(Files(), ElementsAre("f"));
}

TEST_F(FilesTest, TwoWritersOfOneNameDoNotMix) {
  ASSERT_OK_AND_ASSIGN(auto first, FileWriter::Create(Path("f")));
  ASSERT_OK_AND_ASSIGN(auto second, FileWriter::Create(Path("f")));
  ASSERT_OK(first->Append("first"));
  ASSERT_OK(second->Append("second"));
  ASSERT_OK(first->Finish());
  ASSERT_OK(second->Finish());
  EXPECT_EQ(ReadFile(Path("f")).value(), "second");
}

TEST_F(FilesTest, ListsRegularFilesSortedWithoutFollowingLinks) {
  ASSERT_OK(MakeDirs(Path("b/c")));
  ASSERT_OK(MakeDirs(Path("b/c")));
  for (const char* name : {"z", "b/c/2", "b/c/10", "b-"}) {
    ASSERT_OK(WriteFileAtomic(Path(name), name));
  }
  std::filesystem::create_symlink("z", Path("link"));
  std::filesystem::create_directory_symlink("b", Path("linked"));
  EXPECT_THAT(Files(), ElementsAre("b-", "b/c/10", "b/c/2", "z"));
}

TEST_F(FilesTest, RemoveAll) {
  ASSERT_OK(MakeDirs(Path("d/e")));
  ASSERT_OK(WriteFileAtomic(Path("d/e/f"), "x"));
  ASSERT_OK(RemoveAll(Path("d")));
  EXPECT_FALSE(FileExists(Path("d")));
  EXPECT_OK(RemoveAll(Path("d")));
}

TEST_F(FilesTest, CommitDirectoryMovesTheTree) {
  ASSERT_OK(MakeDirs(Path("staged/sub")));
  ASSERT_OK(WriteFileAtomic(Path("staged/sub/f"), "x"));
  ASSERT_OK(CommitDirectory(Path("staged"), Path("final")));
  EXPECT_FALSE(FileExists(Path("staged")));
  EXPECT_THAT(Files(), ElementsAre("final/sub/f"));
}

TEST_F(FilesTest, CommitDirectoryNeverReplaces) {
  ASSERT_OK(MakeDirs(Path("staged")));
  ASSERT_OK(WriteFileAtomic(Path("staged/f"), "new"));
  // Plain rename would take an empty directory's place.
  ASSERT_OK(MakeDirs(Path("final")));
  EXPECT_THAT(CommitDirectory(Path("staged"), Path("final")),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("final")));
  EXPECT_THAT(Files(), ElementsAre("staged/f"));
  EXPECT_THAT(CommitDirectory(Path("absent"), Path("other")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FilesTest, MapsFiles) {
  ASSERT_OK(WriteFileAtomic(Path("f"), "mapped"));
  ASSERT_OK_AND_ASSIGN(const auto map, MappedFile::Open(Path("f")));
  ASSERT_OK(RemoveAll(Path("f")));
  EXPECT_EQ(map->data(), "mapped");
  ASSERT_OK(WriteFileAtomic(Path("empty"), ""));
  ASSERT_OK_AND_ASSIGN(const auto empty, MappedFile::Open(Path("empty")));
  EXPECT_EQ(empty->data(), "");
}

TEST_F(FilesTest, TempDirIsRemoved) {
  ASSERT_OK_AND_ASSIGN(auto inner, TempDir::Create(temp_->path()));
  const std::string path = inner->path();
  ASSERT_OK(WriteFileAtomic(JoinPath(path, "f"), "x"));
  inner.reset();
  EXPECT_FALSE(FileExists(path));
  EXPECT_THAT(TempDir::Create(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
}

TEST_F(FilesTest, FreeDiskBytes) {
  EXPECT_GT(FreeDiskBytes(temp_->path()).value(), 0);
  EXPECT_THAT(FreeDiskBytes(Path("absent")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(IsSafeRelativePathTest, Table) {
  for (const char* path : {"a", "a/b.txt", "..a", "a..", "...", ".hidden"}) {
    EXPECT_TRUE(IsSafeRelativePath(path)) << path;
  }
  for (const char* path : {"", "/", "/a", "..", "../a", "a/..", "a/../b", ".",
                           "./a", "a/.", "a//b", "a/"}) {
    EXPECT_FALSE(IsSafeRelativePath(path)) << path;
  }
  EXPECT_FALSE(IsSafeRelativePath(std::string_view("a\0b", 3)));
  EXPECT_TRUE(IsSafeRelativePath(std::string(512, 'a')));
  EXPECT_FALSE(IsSafeRelativePath(std::string(513, 'a')));
}

}  // namespace
}  // namespace sinklora
