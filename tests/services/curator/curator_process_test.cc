// sinklora-curator as a process: what it acknowledged survives kill -9, what it
// did not is gone, and SIGTERM ends it with 0.
//
// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <memory>
#include <string>
#include <thread>

#include "common/rpc/server.h"
#include "tests/e2e/process.h"
#include "tests/services/curator/client.h"
#include "tests/services/curator/fake_registry.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::Process;
using ::sinklora::testing::StatusIs;
using ::testing::IsEmpty;

constexpr double kWaitSeconds = 60;

class CuratorProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    ASSERT_OK(WriteTokenizer(JoinPath(temp_->path(), "model")));
    metrics_ = MetricsRegistry::Create();
    executor_ = Executor::Create({.name = "test"});
    registry_ = std::make_unique<FakeRegistry>(
        RpcContext{"RegistryService", executor_.get(), metrics_.get()},
        JoinPath(temp_->path(), "model"));
    ASSERT_OK_AND_ASSIGN(registry_server_,
                         RpcServer::Create({}, {registry_.get()}));
    Start();
  }
  void TearDown() override {
    process_.reset();
    registry_->Release();
    registry_server_->Drain(10);
    executor_->Shutdown();
  }

  void Start() {
    ASSERT_OK_AND_ASSIGN(const std::string program,
                         testing::ProgramPath("sinklora-curator"));
    ASSERT_OK_AND_ASSIGN(
        process_, Process::Start({program, "--data-dir=" + data_dir(),
                                  "--registry=" + registry_server_->address(),
                                  "--listen=127.0.0.1:0", "--threads=2"}));
    ASSERT_OK_AND_ASSIGN(const std::string line,
                         process_->WaitForLine("listening on ", kWaitSeconds));
    const size_t begin = std::string("listening on ").size();
    client_ = std::make_unique<CuratorClient>(
        line.substr(begin, line.find(',') - begin));
  }

  std::string data_dir() const { return JoinPath(temp_->path(), "data"); }

  std::unique_ptr<TempDir> temp_;
  std::unique_ptr<MetricsRegistry> metrics_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<FakeRegistry> registry_;
  std::unique_ptr<RpcServer> registry_server_;
  std::unique_ptr<Process> process_;
  std::unique_ptr<CuratorClient> client_;
};

TEST_F(CuratorProcessTest, AcknowledgedWorkSurvivesKillNine) {
  const Files files = {{"a.txt", SomeText(1, 2000)}};
  ASSERT_OK_AND_ASSIGN(const auto source, client_->Import("docs", files, "r1"));
  const auto request = RequestOf("d", "docs", "c1");
  ASSERT_OK_AND_ASSIGN(const auto dataset, client_->Curate(request));
  process_->Kill();
  EXPECT_FALSE(client_->GetDataset("d").ok());
  Start();
  ASSERT_OK_AND_ASSIGN(const auto after, client_->GetDataset("d"));
  EXPECT_EQ(after.SerializeAsString(), dataset.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const auto replay, client_->Curate(request));
  EXPECT_EQ(replay.SerializeAsString(), dataset.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const auto source_replay,
                       client_->Import("docs", files, "r1"));
  EXPECT_EQ(source_replay.SerializeAsString(), source.SerializeAsString());
  v1::StreamExamplesRequest stream;
  stream.set_name("d");
  ASSERT_OK_AND_ASSIGN(const auto examples, client_->Stream(stream));
  EXPECT_EQ(static_cast<int64_t>(examples.size()),
            dataset.counts().train_examples());
}

TEST_F(CuratorProcessTest, WorkThatAKillCutOffIsGoneAndCanBeRepeated) {
  ASSERT_OK(client_->Import("docs", {{"a.txt", SomeText(1, 300)}}, "r1"));
  registry_->Hold();
  std::jthread curation([&, client = client_.get()] {
    EXPECT_FALSE(client->Curate(RequestOf("d", "docs", "c1")).ok());
  });
  registry_->WaitUntilAsked();
  process_->Kill();
  curation.join();
  registry_->Release();
  Start();
  EXPECT_THAT(ListNames(JoinPath(data_dir(), "staging")), IsEmpty());
  EXPECT_THAT(client_->GetDataset("d"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(client_->Curate(RequestOf("d", "docs", "c1")));
}

TEST_F(CuratorProcessTest, SigtermDrainsAndExitsZero) {
  ASSERT_OK(client_->Import("docs", {{"a.txt", "text"}}, "r1"));
  process_->Signal(SIGTERM);
  ASSERT_OK_AND_ASSIGN(const int code, process_->WaitForExit(kWaitSeconds));
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace sinklora::curator
