// Downloads from a real trainer over connections that break: what every client
// of the registry (command line, worker, inference) makes of it.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/cancellation.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "services/inference/artifact_cache.h"
#include "services/inference/registry_client.h"
#include "services/worker/model_cache.h"
#include "services/worker/remote.h"
#include "tests/services/cli/run_cli.h"
#include "tests/services/trainer/cluster.h"
#include "tests/testing/cutting_proxy.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kBigFileBytes = 12 * kMiB;
constexpr int64_t kCutBytes = 5 * kMiB;
// What passes when two downloads are cut and go on. A chunk that is cut is sent
// again, and some more lie in buffers. From the start again it would be 22 MiB.
constexpr int64_t kResumedBytes = 17 * kMiB;

class DownloadTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    source_ = JoinPath(dir_->path(), "source");
    ASSERT_OK(WriteTinyModel(source_, {}));
    std::string big(kBigFileBytes, '\0');
    for (size_t i = 0; i < big.size(); ++i) {
      big[i] = static_cast<char>((i * 2654435761U) >> 13);
    }
    ASSERT_OK(WriteFileAtomic(JoinPath(source_, "big.txt"), big));
    ASSERT_OK_AND_ASSIGN(model_, ImportModel("model", source_));
    ASSERT_OK_AND_ASSIGN(proxy_, CuttingProxy::Start(trainer_address()));
  }

  void ExpectSameFiles(const std::string& directory) {
    ASSERT_OK_AND_ASSIGN(const auto expected, ListFilesRecursive(source_));
    ASSERT_OK_AND_ASSIGN(const auto found, ListFilesRecursive(directory));
    ASSERT_EQ(found, expected);
    for (const std::string& path : expected) {
      ASSERT_OK_AND_ASSIGN(const auto sent, ReadFile(JoinPath(source_, path)));
      ASSERT_OK_AND_ASSIGN(const auto got, ReadFile(JoinPath(directory, path)));
      EXPECT_TRUE(sent == got) << path;
    }
  }

  std::string Path(const std::string& name) const {
    return JoinPath(dir_->path(), name);
  }

  std::string source_;
  registry::v1::Model model_;
  std::unique_ptr<CuttingProxy> proxy_;
};

TEST_F(DownloadTest, TheCommandLineGoesOnAfterEveryCut) {
  proxy_->CutAfter(kCutBytes, /*times=*/2);
  const CliRun run = RunCli(
      proxy_->address(), {"model", "export", "model", "--output", Path("out")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(proxy_->cuts(), 2);
  EXPECT_LT(proxy_->passed_bytes(), kResumedBytes);
  ExpectSameFiles(Path("out"));
}

TEST_F(DownloadTest, TheCommandLineGoesOnWithAnEarlierDownload) {
  const std::vector<std::string> command = {"model", "export", "model",
                                            "--output", Path("out")};
  const std::string partial =
      Path("out.partial-" + model_.digest().substr(0, 12));
  proxy_->GoDownAfter(kCutBytes);
  const CliRun cut = RunCli(proxy_->address(), command);
  EXPECT_EQ(cut.exit_code, 4) << cut.err;  // unavailable
  EXPECT_THAT(cut.err, HasSubstr(partial));
  EXPECT_TRUE(FileExists(partial));
  EXPECT_FALSE(FileExists(Path("out")));

  proxy_->ComeBack();
  const CliRun run = RunCli(proxy_->address(), command);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LT(proxy_->passed_bytes(), kResumedBytes);
  EXPECT_FALSE(FileExists(partial));
  ExpectSameFiles(Path("out"));
}

TEST_F(DownloadTest, TheCommandLineFindsOutADamagedPart) {
  const std::vector<std::string> command = {"model", "export", "model",
                                            "--output", Path("out")};
  proxy_->GoDownAfter(kCutBytes);
  EXPECT_EQ(RunCli(proxy_->address(), command).exit_code, 4);
  const std::string partial =
      Path("out.partial-" + model_.digest().substr(0, 12));
  ASSERT_OK_AND_ASSIGN(const auto parts, ListFilesRecursive(partial));
  ASSERT_THAT(parts, ElementsAre(HasSubstr(".part-")));
  ASSERT_OK_AND_ASSIGN(std::string part, ReadFile(JoinPath(partial, parts[0])));
  ASSERT_GT(part.size(), size_t{0});
  part[part.size() / 2] ^= 1;
  ASSERT_OK(WriteFileAtomic(JoinPath(partial, parts[0]), part));
  proxy_->ComeBack();
  const CliRun run = RunCli(proxy_->address(), command);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  ExpectSameFiles(Path("out"));
}

TEST_F(DownloadTest, TheWorkerGoesOnAfterACutAndAfterARestart) {
  const auto connect = [this] {
    return worker::MakeGrpcRemote([this] { return proxy_->address(); },
                                  [this] { return curator_address(); });
  };
  auto remote = connect();
  const Cancellation never;
  ASSERT_OK_AND_ASSIGN(auto cache,
                       worker::ModelCache::Create(Path("cache"), remote.get()));
  proxy_->CutAfter(kCutBytes, 1);
  // GetModel comes first, and is small.
  ASSERT_OK_AND_ASSIGN(const std::string dir,
                       cache->Fetch("model", model_.digest(), &never));
  EXPECT_EQ(proxy_->cuts(), 1);
  ExpectSameFiles(dir);

  ASSERT_OK(RemoveAll(dir));
  const int64_t before = proxy_->passed_bytes();
  proxy_->GoDownAfter(kCutBytes);
  const absl::Status cut =
      cache->Fetch("model", model_.digest(), &never).status();
  EXPECT_TRUE(worker::IsTransient(cut)) << cut;
  EXPECT_FALSE(FileExists(dir));
  // As a worker that was killed finds it.
  remote.reset();
  remote = connect();
  ASSERT_OK_AND_ASSIGN(cache,
                       worker::ModelCache::Create(Path("cache"), remote.get()));
  proxy_->ComeBack();
  ASSERT_OK(cache->Fetch("model", model_.digest(), &never));
  EXPECT_LT(proxy_->passed_bytes() - before, kResumedBytes);
  ExpectSameFiles(dir);
}

TEST_F(DownloadTest, InferenceGoesOnAfterACutAndAfterARestart) {
  const auto connect = [this] {
    return std::make_unique<inference::RegistryClient>(
        [this] { return proxy_->address(); });
  };
  auto registry = connect();
  ASSERT_OK_AND_ASSIGN(const auto artifact, registry->GetModel("model"));
  const auto fetch = [&](inference::ArtifactCache* cache) {
    return cache->Fetch("models", artifact, [&](const std::string& directory) {
      return registry->DownloadModel(artifact, directory);
    });
  };
  ASSERT_OK_AND_ASSIGN(auto cache,
                       inference::ArtifactCache::Create(Path("cache")));
  proxy_->CutAfter(kCutBytes, 1);
  ASSERT_OK_AND_ASSIGN(const std::string dir, fetch(cache.get()));
  EXPECT_EQ(proxy_->cuts(), 1);
  ExpectSameFiles(dir);

  ASSERT_OK(RemoveAll(dir));
  const int64_t before = proxy_->passed_bytes();
  proxy_->GoDownAfter(kCutBytes);
  EXPECT_THAT(fetch(cache.get()), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(FileExists(dir));
  // As a process that was killed finds it.
  registry.reset();
  registry = connect();
  ASSERT_OK_AND_ASSIGN(cache, inference::ArtifactCache::Create(Path("cache")));
  proxy_->ComeBack();
  ASSERT_OK(fetch(cache.get()));
  EXPECT_LT(proxy_->passed_bytes() - before, kResumedBytes);
  ExpectSameFiles(dir);
}

TEST_F(DownloadTest, AModelThatWasReplacedMeanwhileIsNotMixedIn) {
  inference::RegistryClient registry([this] { return trainer_address(); });
  ASSERT_OK_AND_ASSIGN(auto artifact, registry.GetModel("model"));
  artifact.digest = std::string(64, '0');
  EXPECT_THAT(registry.DownloadModel(artifact, Path("target")),
              StatusIs(StatusCode::kAborted, HasSubstr(model_.digest())));
  const auto remote =
      worker::MakeGrpcRemote([this] { return trainer_address(); },
                             [this] { return curator_address(); });
  registry::v1::Model other = model_;
  other.set_digest(std::string(64, '0'));
  const Cancellation never;
  EXPECT_THAT(remote->DownloadModel(other, Path("target"), &never),
              StatusIs(StatusCode::kFailedPrecondition));
}

TEST_F(DownloadTest, AFileThatRottedOnTheServerIsNeverTakenForGood) {
  const std::string stored =
      JoinPath(dir_->path(), "trainer/models/" + model_.digest() + "/big.txt");
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(stored));
  bytes[kBigFileBytes / 2] ^= 1;
  ASSERT_OK(WriteFileAtomic(stored, bytes));
  const CliRun run = RunCli(
      trainer_address(), {"model", "export", "model", "--output", Path("out")});
  EXPECT_EQ(run.exit_code, 6) << run.err;
  EXPECT_THAT(run.err, HasSubstr("big.txt"));
  EXPECT_FALSE(FileExists(Path("out")));
  EXPECT_FALSE(
      FileExists(Path("out.partial-" + model_.digest().substr(0, 12))));
}

}  // namespace
}  // namespace sinklora::testing
