// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_directory.h"

#include <sys/stat.h>

#include <filesystem>

#include "common/base/files.h"
#include "common/weights/carried_files.h"
#include "common/weights/safetensors.h"
#include "common/weights/weight_index.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

class ModelDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    dir_ = JoinPath(temp_->path(), "model");
    ASSERT_OK(MakeDirs(dir_));
  }
  std::string Path(const std::string& name) { return JoinPath(dir_, name); }
  void WriteTensors(const std::string& path,
                    const std::vector<std::string>& names) {
    std::map<std::string, StoredTensor> tensors;
    for (const std::string& name : names) {
      tensors[name] = {FileDType::kU8, {1}, "x"};
    }
    ASSERT_OK(WriteSafetensors(path, tensors, {}));
  }
  void WriteIndex(const json& weight_map) {
    ASSERT_OK(WriteFileAtomic(Path(kWeightIndexFile),
                              json{{"weight_map", weight_map}}.dump()));
  }

  std::unique_ptr<TempDir> temp_;
  std::string dir_;
};

TEST_F(ModelDirectoryTest, LinksAreFollowedInsideOnly) {
  const std::string secret = JoinPath(temp_->path(), "secret");
  ASSERT_OK(WriteFileAtomic(secret, "s"));
  ASSERT_OK(MakeDirs(Path("files")));
  ASSERT_OK(WriteFileAtomic(Path("files/a"), "inside"));
  fs::create_symlink("files/a", Path("a"));
  fs::create_symlink("a", Path("b"));
  fs::create_symlink("../secret", Path("relative"));
  fs::create_symlink(secret, Path("absolute"));
  fs::create_symlink("absolute", Path("chain"));
  fs::create_symlink("..", Path("up"));
  fs::create_symlink("nowhere", Path("dangling"));
  fs::create_symlink("loop", Path("loop"));
  // A directory whose name starts like ours is not ours.
  ASSERT_OK(MakeDirs(dir_ + "2"));
  ASSERT_OK(WriteFileAtomic(dir_ + "2/x", "x"));
  fs::create_symlink("../model2/x", Path("sibling"));

  EXPECT_EQ(ReadModelFile(dir_, "a").value(), "inside");
  EXPECT_EQ(ReadModelFile(dir_, "b").value(), "inside");
  EXPECT_EQ(ReadModelFile(dir_ + "/", "b").value(), "inside");
  fs::create_directory_symlink(dir_, temp_->path() + "/alias");
  EXPECT_EQ(ReadModelFile(temp_->path() + "/alias", "b").value(), "inside");
  for (const char* name :
       {"relative", "absolute", "chain", "up/secret", "sibling"}) {
    const auto read = ReadModelFile(dir_, name);
    EXPECT_THAT(read, StatusIs(kInvalid, AllOf(HasSubstr(Path(name)),
                                               HasSubstr("outside"))));
  }
  EXPECT_THAT(ReadModelFile(dir_, "absolute"),
              StatusIs(kInvalid, HasSubstr(secret)));
  EXPECT_THAT(ReadModelFile(dir_, "dangling"),
              StatusIs(kInvalid, HasSubstr("a link to nowhere: No such")));
  EXPECT_THAT(ReadModelFile(dir_, "loop"), StatusIs(kInvalid));
  EXPECT_THAT(ReadModelFile(dir_, "none"), StatusIs(kNotFound));
  EXPECT_THAT(ReadModelFile(dir_, "../secret"), StatusIs(kInvalid));
  EXPECT_THAT(ReadModelFile(dir_, secret), StatusIs(kInvalid));
  // Neither a directory nor a pipe, which would be waited for.
  EXPECT_THAT(ReadModelFile(dir_, "files"),
              StatusIs(kInvalid, HasSubstr("not a regular file")));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(ReadModelFile(dir_, "pipe"),
              StatusIs(kInvalid, HasSubstr("not a regular file")));
}

TEST_F(ModelDirectoryTest, SnapshotsOfTheHubCacheLinkToItsBlobs) {
  const std::string repo = JoinPath(temp_->path(), "models--a--b");
  const std::string snapshot = JoinPath(repo, "snapshots/123abc");
  ASSERT_OK(MakeDirs(snapshot));
  ASSERT_OK(MakeDirs(JoinPath(repo, "blobs")));
  ASSERT_OK(MakeDirs(JoinPath(repo, "refs")));
  ASSERT_OK(WriteFileAtomic(JoinPath(repo, "blobs/e3b0"), "{}"));
  ASSERT_OK(WriteFileAtomic(JoinPath(repo, "refs/main"), "123abc"));
  fs::create_symlink("../../blobs/e3b0", JoinPath(snapshot, "config.json"));
  fs::create_symlink("../../refs/main", JoinPath(snapshot, "merges.txt"));
  EXPECT_EQ(ReadModelFile(snapshot, "config.json").value(), "{}");
  EXPECT_THAT(ReadModelFile(snapshot, "merges.txt"),
              StatusIs(kInvalid, HasSubstr("outside")));
}

TEST_F(ModelDirectoryTest, CarriedFilesDoNotLeak) {
  const std::string to = JoinPath(temp_->path(), "to");
  ASSERT_OK(MakeDirs(to));
  ASSERT_OK(WriteFileAtomic(Path("tokenizer.json"), "{}"));
  ASSERT_OK(CopyCarriedFiles(dir_, to));
  EXPECT_EQ(ReadFile(JoinPath(to, "tokenizer.json")).value(), "{}");
  fs::create_symlink("/etc/hostname", Path("vocab.json"));
  EXPECT_THAT(CopyCarriedFiles(dir_, to),
              StatusIs(kInvalid, HasSubstr("/etc/hostname")));
  EXPECT_FALSE(FileExists(JoinPath(to, "vocab.json")));
}

TEST_F(ModelDirectoryTest, IndexMustNameFilesBesideIt) {
  const std::pair<json, const char*> cases[] = {
      {"../a.safetensors", "\"../a.safetensors\""},
      {"/etc/passwd", "\"/etc/passwd\""},
      {"sub/a.safetensors", "must be the name of a file beside the index"},
      {"a\\b", "beside the index"},
      {"", "beside the index"},
      {"..", "beside the index"},
      {7, "tensor 't' in 7"},
      {nullptr, "tensor 't' in null"}};
  for (const auto& [shard, message] : cases) {
    WriteIndex({{"t", shard}});
    EXPECT_THAT(
        OpenModelWeights(dir_),
        StatusIs(kInvalid, AllOf(HasSubstr(Path(kWeightIndexFile)),
                                 HasSubstr("tensor 't'"), HasSubstr(message))));
  }
  for (const char* text :
       {"{}", "{\"weight_map\": {}}", "{\"weight_map\": []}"}) {
    EXPECT_THAT(ParseWeightIndex(text, "i"),
                StatusIs(kInvalid, HasSubstr("i: weight_map is ")));
  }
  EXPECT_THAT(ParseWeightIndex(R"({"weight_map": {"t": "a", "t": "b"}})", "i"),
              StatusIs(kInvalid, HasSubstr("duplicate key \"t\"")));
}

TEST_F(ModelDirectoryTest, AllDisagreementsOfIndexAndShardsAreListed) {
  WriteTensors(Path("a.safetensors"), {"a1", "extra1", "extra2", "both"});
  WriteTensors(Path("b.safetensors"), {"b1", "both"});
  WriteIndex({{"a1", "a.safetensors"},
              {"both", "a.safetensors"},
              {"b1", "b.safetensors"},
              {"gone1", "a.safetensors"},
              {"gone2", "b.safetensors"}});
  EXPECT_THAT(
      OpenModelWeights(dir_),
      StatusIs(
          kInvalid,
          AllOf(HasSubstr("tensor 'extra1' is in a.safetensors but not in the "
                          "index"),
                HasSubstr("tensor 'extra2' is in a.safetensors"),
                HasSubstr("tensor 'both' is in b.safetensors, the index puts "
                          "it in a.safetensors"),
                HasSubstr("tensor 'gone1' is missing in a.safetensors"),
                HasSubstr("tensor 'gone2' is missing in b.safetensors"))));
}

TEST_F(ModelDirectoryTest, ShardsAreNotReadThroughLinksOut) {
  WriteTensors(JoinPath(temp_->path(), "out.safetensors"), {"t"});
  fs::create_symlink("../out.safetensors", Path("a.safetensors"));
  WriteIndex({{"t", "a.safetensors"}});
  EXPECT_THAT(OpenModelWeights(dir_),
              StatusIs(kInvalid, AllOf(HasSubstr(Path("a.safetensors")),
                                       HasSubstr("out.safetensors"))));
  fs::create_symlink("../out.safetensors", Path(kSingleWeightsFile));
  EXPECT_THAT(OpenModelWeights(dir_), StatusIs(kInvalid, HasSubstr("outside")));
  ASSERT_OK(RemoveAll(Path(kSingleWeightsFile)));
  WriteIndex({{"t", "b.safetensors"}});
  EXPECT_THAT(OpenModelWeights(dir_),
              StatusIs(kNotFound, HasSubstr("b.safetensors")));
}

TEST_F(ModelDirectoryTest, PicklesInPlaceOfWeightsAreToldSo) {
  EXPECT_THAT(OpenModelWeights(dir_),
              StatusIs(kNotFound, HasSubstr("neither model.safetensors")));
  for (const char* name : {"pytorch_model-00001-of-00002.bin",
                           "consolidated.00.pth", "trainable_params.bin"}) {
    ASSERT_OK(WriteFileAtomic(Path(name), "x"));
    EXPECT_THAT(
        OpenModelWeights(dir_),
        StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr("torch pickle"),
                                 HasSubstr("save_pretrained"))));
    ASSERT_OK(RemoveAll(Path(name)));
  }
  EXPECT_THAT(OpenModelWeights(Path("none")), StatusIs(kNotFound));
}

}  // namespace
}  // namespace sinklora
