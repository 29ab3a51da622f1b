// A service that is killed in the middle of an upload, or right after it said
// that one is stored: the client is told, nothing half-done is left, and the
// same request repeated does its work once.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/fixture.h"
#include "tests/e2e/stalling_proxy.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int kUnavailable = 4;
// Of an upload, what the server gets before the network hangs: at least one
// chunk of a file (1 MiB), and more than a gRPC client keeps for a retry of its
// own.
constexpr int64_t kCarriedBytes = int64_t{2} << 20;

class ImportCrashTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartWithData(
        {.lease_ttl_seconds = 2, .parts = {Part::kTrainer, Part::kCurator}}));
  }

  // Runs `import` until a part of the upload is on the disk of `part` and no
  // more will come, kills `part` then, and starts it again.
  void KillInTheMiddleOf(const std::vector<std::string>& import, Part part,
                         const std::string& service) {
    ASSERT_OK_AND_ASSIGN(
        const auto proxy,
        StallingProxy::Start(cluster_->address(part), kCarriedBytes));
    ASSERT_OK_AND_ASSIGN(const auto importing,
                         Process::Start(cluster_->CliArguments(
                             import, {{part, proxy->address()}})));
    ASSERT_TRUE(WaitUntil(kPatienceSeconds, [&] {
      return proxy->stalled() && !FilesOf(part, "staging").empty();
    })) << importing->err();
    EXPECT_EQ(
        MetricAt(cluster_->metrics_address(part), "sinklora_rpc_in_flight",
                 {"service=\"" + service + "\""})
            .value_or(-1),
        1);
    cluster_->KillPart(part);
    ASSERT_OK_AND_ASSIGN(const int code,
                         importing->WaitForExit(kPatienceSeconds));
    EXPECT_EQ(code, kUnavailable) << importing->out() << importing->err();
    EXPECT_THAT(importing->err(), HasSubstr("UNAVAILABLE"));
    EXPECT_THAT(FilesOf(part, "staging"), Not(IsEmpty()));
    ASSERT_THAT(cluster_->StartPart(part), IsOk());
    EXPECT_THAT(FilesOf(part, "staging"), IsEmpty());
  }

  double Sources() {
    return Metric(Part::kCurator, "sinklora_curator_sources").value_or(-1);
  }
  std::vector<std::string> ModelNames() {
    std::vector<std::string> names;
    const auto list = cluster_->CliJson({"model", "list"});
    EXPECT_THAT(list, IsOk());
    if (!list.ok()) return names;
    for (const auto& model : (*list)["models"]) names.push_back(model["name"]);
    return names;
  }
};

TEST_F(ImportCrashTest, CuratorKilledInMidUpload) {
  std::string text;
  for (int i = 0; text.size() < kCarriedBytes * 3 / 2; ++i) {
    text += "Line " + std::to_string(i) + " of a long document.\n";
  }
  ASSERT_THAT(WriteFileAtomic(Scratch("big.txt"), text), IsOk());
  const std::vector<std::string> import = {"--request-id", "import-1",
                                           "dataset",      "import",
                                           "big",          Scratch("big.txt")};
  const std::vector<std::string> curate = {
      "dataset",   "curate", "of-big",    "--source",    "big",
      "--context", "128",    "--builder", "packed-text", "--tokenizer-model",
      "tiny"};
  ASSERT_NO_FATAL_FAILURE(
      KillInTheMiddleOf(import, Part::kCurator, "CuratorService"));
  EXPECT_EQ(Sources(), 1);
  ASSERT_OK_AND_ASSIGN(const auto absent, cluster_->Cli(curate));
  EXPECT_EQ(absent.exit_code, 3) << absent.err;
  EXPECT_THAT(absent.err, HasSubstr("big"));

  ASSERT_OK_AND_ASSIGN(const auto first, cluster_->CliJson(import));
  EXPECT_EQ(first["record_count"], "1");
  EXPECT_EQ(first["text_bytes"], std::to_string(text.size()));
  ASSERT_OK_AND_ASSIGN(const auto second, cluster_->CliJson(import));
  EXPECT_EQ(first, second);
  EXPECT_EQ(Sources(), 2);
  EXPECT_THAT(FilesOf(Part::kCurator, "sources"), SizeIs(2));

  // What was there before is usable: a new dataset from the old source has the
  // old content.
  ASSERT_OK_AND_ASSIGN(const auto old,
                       cluster_->CliJson({"dataset", "show", "set"}));
  ASSERT_OK_AND_ASSIGN(
      const auto rebuilt,
      cluster_->CliJson({"dataset", "curate", "set-again", "--source", "text",
                         "--tokenizer-model", "tiny", "--context", "128",
                         "--validation-fraction", "0.25"}));
  EXPECT_EQ(rebuilt["counts"], old["counts"]);
}

TEST_F(ImportCrashTest, TrainerKilledInMidUpload) {
  // Its weights alone are 4 MB.
  ASSERT_THAT(WriteTinyModel(Scratch("large"), {.layers = 8,
                                                .hidden = 128,
                                                .intermediate = 512,
                                                .heads = 8,
                                                .kv_heads = 8,
                                                .head_dim = 16}),
              IsOk());
  const std::vector<std::string> import = {
      "--request-id", "import-1", "model", "import", "large", Scratch("large")};
  const size_t files_before = FilesOf(Part::kTrainer, "models").size();
  ASSERT_NO_FATAL_FAILURE(
      KillInTheMiddleOf(import, Part::kTrainer, "RegistryService"));
  EXPECT_THAT(ModelNames(), ::testing::ElementsAre("tiny"));
  EXPECT_EQ(FilesOf(Part::kTrainer, "models").size(), files_before);

  ASSERT_OK_AND_ASSIGN(const auto first, cluster_->CliJson(import));
  ASSERT_OK_AND_ASSIGN(const auto second, cluster_->CliJson(import));
  EXPECT_EQ(first, second);
  EXPECT_THAT(ModelNames(), ::testing::ElementsAre("large", "tiny"));
}

TEST_F(ImportCrashTest, ServicesKilledAfterTheAnswer) {
  const std::vector<std::string> model = {
      "--request-id", "import-1", "model", "import", "twin", Scratch("model")};
  const std::vector<std::string> source = {
      "--request-id", "import-2", "dataset",
      "import",       "one",      Scratch("text/doc-00.txt")};
  ASSERT_OK_AND_ASSIGN(const auto model_before, cluster_->CliJson(model));
  ASSERT_OK_AND_ASSIGN(const auto source_before, cluster_->CliJson(source));
  for (const Part part : {Part::kTrainer, Part::kCurator}) {
    cluster_->KillPart(part);
    ASSERT_THAT(cluster_->StartPart(part), IsOk());
  }
  EXPECT_THAT(ModelNames(), ::testing::ElementsAre("tiny", "twin"));
  EXPECT_EQ(Sources(), 2);
  // Including create_time: it is the stored answer, not a second import.
  ASSERT_OK_AND_ASSIGN(const auto model_after, cluster_->CliJson(model));
  EXPECT_EQ(model_after, model_before);
  ASSERT_OK_AND_ASSIGN(const auto source_after, cluster_->CliJson(source));
  EXPECT_EQ(source_after, source_before);
  EXPECT_THAT(ModelNames(), ::testing::ElementsAre("tiny", "twin"));
  EXPECT_EQ(Sources(), 2);
  // The key is bound to its content.
  std::vector<std::string> other = model;
  other[4] = "other";
  ASSERT_OK_AND_ASSIGN(const auto refused, cluster_->Cli(other));
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_THAT(ModelNames(), ::testing::ElementsAre("tiny", "twin"));
}

}  // namespace
}  // namespace sinklora::testing
