// How the curator keeps things: names, repeated requests, cancellation,
// restarts.
//
// SPDX-License-Identifier: Apache-2.0
#include "services/curator/curator_core.h"

#include <fmt/format.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/hash.h"
#include "services/curator/dataset_builder.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CuratorCoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(fixture_, CuratorFixture::Create());
  }
  CuratorCore& core() { return fixture_->core(); }
  DataLayout layout() const { return {fixture_->data_dir()}; }

  // No trace of an unfinished import or curation.
  void ExpectOnlyStored(size_t sources, size_t datasets) {
    EXPECT_THAT(ListNames(layout().staging()), IsEmpty());
    EXPECT_EQ(ListNames(layout().sources()).size(), sources);
    EXPECT_EQ(ListNames(layout().datasets()).size(), datasets);
  }

  Files TwoFiles() { return {{"a.txt", SomeText(1, 200)}, {"b.md", "short"}}; }

  std::unique_ptr<CuratorFixture> fixture_;
};

TEST_F(CuratorCoreTest, ImportDescribesTheSource) {
  ASSERT_OK_AND_ASSIGN(const SourceInfo source,
                       fixture_->Import("docs", TwoFiles(), "r1"));
  EXPECT_EQ(source.name, "docs");
  EXPECT_EQ(source.format, SourceFormat::kPlainText);
  EXPECT_EQ(source.record_count, 2);
  EXPECT_EQ(source.text_bytes,
            static_cast<int64_t>(SomeText(1, 200).size() + 5));
  ASSERT_EQ(source.files.size(), 2u);
  EXPECT_EQ(source.files[1].path, "b.md");
  EXPECT_EQ(source.files[1].sha256, Sha256Hex("short"));
  ASSERT_OK_AND_ASSIGN(const std::string digest,
                       Sha256OfFile(layout().Records(source.digest)));
  EXPECT_EQ(digest, source.digest);
}

TEST_F(CuratorCoreTest, BadImportsLeaveNothing) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(
      fixture_->Import("docs", {{"a.txt", "x"}, {"b.txt", "\xFF"}}, "1"),
      StatusIs(invalid, HasSubstr("\"b.txt\"")));
  EXPECT_THAT(fixture_->Import("docs", {{"a.txt", "x"}, {"b.json", "[]"}}, "2"),
              StatusIs(invalid, HasSubstr("one format")));
  EXPECT_THAT(fixture_->Import("docs", {{"b.json", "[]"}}, "3"),
              StatusIs(invalid, HasSubstr("no record")));
  EXPECT_THAT(fixture_->Import("docs", {}, "4"),
              StatusIs(invalid, HasSubstr("no file")));
  EXPECT_THAT(fixture_->Import("Docs", TwoFiles(), "5"),
              StatusIs(invalid, HasSubstr("Docs")));
  EXPECT_THAT(fixture_->Import("docs", TwoFiles(), ""), StatusIs(invalid));
  ExpectOnlyStored(0, 0);
  // The name and the request ids are still free.
  EXPECT_OK(fixture_->Import("docs", TwoFiles(), "1"));
}

TEST_F(CuratorCoreTest, FormatCanBeGiven) {
  ASSERT_OK_AND_ASSIGN(const SourceInfo source,
                       fixture_->Import("raw", {{"a.json", "{not json"}}, "r1",
                                        SourceFormat::kPlainText));
  EXPECT_EQ(source.record_count, 1);
}

TEST_F(CuratorCoreTest, ImportIsIdempotent) {
  ASSERT_OK_AND_ASSIGN(const SourceInfo first,
                       fixture_->Import("docs", TwoFiles(), "r1"));
  fixture_->clock().AdvanceSeconds(10);
  ASSERT_OK_AND_ASSIGN(const SourceInfo replay,
                       fixture_->Import("docs", TwoFiles(), "r1"));
  EXPECT_EQ(replay.create_time_micros, first.create_time_micros);
  ASSERT_OK_AND_ASSIGN(const SourceInfo again,
                       fixture_->Import("docs", TwoFiles(), "r2"));
  EXPECT_EQ(again.create_time_micros, first.create_time_micros);
  EXPECT_THAT(fixture_->Import("docs", {{"a.txt", "other"}}, "r3"),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("docs")));
  EXPECT_THAT(fixture_->Import("docs", {{"a.txt", "other"}}, "r1"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // Another name may hold the same content.
  ASSERT_OK_AND_ASSIGN(const SourceInfo other,
                       fixture_->Import("copy", TwoFiles(), "r4"));
  EXPECT_EQ(other.digest, first.digest);
  ExpectOnlyStored(1, 0);
}

TEST_F(CuratorCoreTest, CurateIsIdempotent) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo first,
                       fixture_->Curate("d", recipe, "c1"));
  fixture_->clock().AdvanceSeconds(10);
  for (const char* id : {"c1", "c2", "c2"}) {
    ASSERT_OK_AND_ASSIGN(const DatasetInfo again,
                         fixture_->Curate("d", recipe, id));
    EXPECT_EQ(again.digest, first.digest);
    EXPECT_EQ(again.create_time_micros, first.create_time_micros);
  }
  // A default that is spelled out is no other recipe.
  Recipe spelled = recipe;
  spelled.builder = Builder::kPackedText;
  EXPECT_OK(fixture_->Curate("d", spelled, "c3"));
  Recipe other = recipe;
  other.seed = 9;
  EXPECT_THAT(fixture_->Curate("d", other, "c4"),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("\"d\"")));
  EXPECT_THAT(fixture_->Curate("d2", recipe, "c1"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(fixture_->models().downloads(), 1);
  ExpectOnlyStored(1, 1);
}

TEST_F(CuratorCoreTest, ConcurrentRetriesMakeOneDataset) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  std::vector<std::jthread> threads;
  std::atomic<int> ok{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      if (fixture_->Curate("d", recipe, "same").ok()) ++ok;
    });
  }
  threads.clear();
  EXPECT_EQ(ok, 4);
  ExpectOnlyStored(1, 1);
  EXPECT_THAT(fixture_->registry().Serialize(),
              HasSubstr("sinklora_curator_datasets 1"));
}

TEST_F(CuratorCoreTest, CancelledCurationLeavesNothing) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  for (const std::string stop_at : {"read", "tokenize", "pack", "write"}) {
    std::atomic<bool> cancelled{false};
    EXPECT_THAT(core().Curate(
                    {"d", recipe, "c1"}, [&] { return cancelled.load(); },
                    [&](const char* stage, int64_t, int64_t) {
                      if (stage == stop_at) cancelled = true;
                    }),
                StatusIs(absl::StatusCode::kCancelled))
        << stop_at;
    EXPECT_THAT(core().GetDataset("d"), StatusIs(absl::StatusCode::kNotFound));
    ExpectOnlyStored(1, 0);
  }
  EXPECT_OK(fixture_->Curate("d", recipe, "c1"));
}

TEST_F(CuratorCoreTest, CancelledImportLeavesNothing) {
  ASSERT_OK_AND_ASSIGN(auto upload, core().NewUploadDir());
  ASSERT_OK_AND_ASSIGN(auto files, WriteFiles(upload->path(), TwoFiles()));
  EXPECT_THAT(core().ImportSource({"docs", {}, "r1"}, upload->path(), files,
                                  [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
  upload.reset();
  ExpectOnlyStored(0, 0);
}

TEST_F(CuratorCoreTest, StopEndsRunningWork) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  core().Stop();
  EXPECT_THAT(fixture_->Curate("d", RecipeOf({"docs"}), "c1"),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(CuratorCoreTest, StoredThingsSurviveARestartAndLeftoversDoNot) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo before,
                       fixture_->Curate("d", recipe, "c1"));
  ASSERT_OK_AND_ASSIGN(const auto examples,
                       fixture_->Examples("d", Split::kTrain));
  // As after a kill: half an upload, and directories without metadata.
  ASSERT_OK(WriteFiles(JoinPath(layout().staging(), "x"), TwoFiles()));
  ASSERT_OK(WriteFiles(layout().Source("orphan"), TwoFiles()));
  ASSERT_OK(WriteFiles(layout().Dataset("orphan"), TwoFiles()));
  ASSERT_OK(fixture_->Reopen(1));
  ExpectOnlyStored(1, 1);
  ASSERT_OK_AND_ASSIGN(const DatasetInfo after, core().GetDataset("d"));
  EXPECT_EQ(after.digest, before.digest);
  EXPECT_EQ(after.recipe, before.recipe);
  EXPECT_EQ(after.counts.train_tokens, before.counts.train_tokens);
  ASSERT_OK_AND_ASSIGN(const auto examples_after,
                       fixture_->Examples("d", Split::kTrain));
  EXPECT_EQ(examples_after, examples);
  // The retry of an acknowledged request still gets its answer.
  ASSERT_OK_AND_ASSIGN(const DatasetInfo replay,
                       fixture_->Curate("d", recipe, "c1"));
  EXPECT_EQ(replay.create_time_micros, before.create_time_micros);
  const std::string metrics = fixture_->registry().Serialize();
  EXPECT_THAT(metrics, HasSubstr("sinklora_curator_datasets 1"));
  EXPECT_THAT(metrics, HasSubstr("sinklora_curator_sources 1"));
}

TEST_F(CuratorCoreTest, TheDataDirectoryHasOneOwner) {
  CuratorMetrics metrics(&fixture_->registry());
  EXPECT_THAT(CuratorCore::Create({.data_dir = fixture_->data_dir(),
                                   .threads = 1,
                                   .models = &fixture_->models(),
                                   .metrics = &metrics,
                                   .clock = &fixture_->clock()}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CuratorCoreTest, NothingIsStartedOnAFullDisk) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  ASSERT_OK(fixture_->Curate("d", RecipeOf({"docs"}), "c1"));
  const auto is_low =
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("the disk of " + fixture_->data_dir()));
  // Room for the upload, none for the normalised copy.
  fixture_->SetFreeBytes(10);
  EXPECT_THAT(fixture_->Import("more", {{"a.txt", "eleven bytes"}}, "r2"),
              is_low);
  fixture_->SetFreeBytes(0);
  EXPECT_THAT(fixture_->Curate("e", RecipeOf({"docs"}), "c2"), is_low);
  EXPECT_THAT(core().MakeExport("d", NotCancelled), is_low);
  // What needs no room goes on.
  EXPECT_OK(fixture_->Examples("d", Split::kTrain));
}

TEST_F(CuratorCoreTest, DamagedSourceIsNoticed) {
  ASSERT_OK_AND_ASSIGN(const SourceInfo source,
                       fixture_->Import("docs", TwoFiles(), "r1"));
  const std::string path = layout().Records(source.digest);
  ASSERT_OK_AND_ASSIGN(std::string content, ReadFile(path));
  content[content.size() / 2] ^= 1;
  ASSERT_OK(WriteFileAtomic(path, content));
  EXPECT_THAT(fixture_->Curate("d", RecipeOf({"docs"}), "c1"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path)));
}

TEST_F(CuratorCoreTest, OpenExamplesChecksTheDigest) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "c1"));
  EXPECT_OK(core().OpenExamples("d", dataset.digest, Split::kTrain));
  EXPECT_THAT(core().OpenExamples("d", "0123", Split::kTrain),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr(dataset.digest)));
  EXPECT_THAT(core().OpenExamples("no", "", Split::kTrain),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"no\"")));
}

TEST_F(CuratorCoreTest, ListPagesThroughAllDatasetsByName) {
  ASSERT_OK(fixture_->Import("docs", TwoFiles(), "r1"));
  for (const char* name : {"c", "a", "e", "b", "d"}) {
    Recipe recipe = RecipeOf({"docs"});
    recipe.validation_fraction = 0;
    ASSERT_OK(fixture_->Curate(name, recipe, name));
  }
  ExpectOnlyStored(1, 1);  // equal recipes share their content
  std::vector<std::string> names;
  std::string token;
  int pages = 0;
  do {
    ASSERT_OK_AND_ASSIGN(const auto page, core().ListDatasets(2, token));
    for (const auto& dataset : page.datasets) names.push_back(dataset.name);
    token = page.next_page_token;
    ++pages;
  } while (!token.empty());
  EXPECT_THAT(names, ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_EQ(pages, 3);
  ASSERT_OK_AND_ASSIGN(const auto all, core().ListDatasets(0, ""));
  EXPECT_EQ(all.datasets.size(), 5u);
  EXPECT_EQ(all.next_page_token, "");
  ASSERT_OK_AND_ASSIGN(const auto exact, core().ListDatasets(5, ""));
  EXPECT_EQ(exact.next_page_token, "");
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(core().ListDatasets(-1, ""), StatusIs(invalid, HasSubstr("-1")));
  EXPECT_THAT(core().ListDatasets(1001, ""), StatusIs(invalid));
  EXPECT_THAT(core().ListDatasets(1, "nonsense"), StatusIs(invalid));
}

TEST_F(CuratorCoreTest, MetricsCountRecordsAndBytes) {
  EXPECT_THAT(fixture_->registry().Serialize(),
              HasSubstr("sinklora_curator_records_total{outcome=\"rejected\","
                        "reason=\"DUPLICATE\"} 0"));
  ASSERT_OK(fixture_->Import(
      "docs", {{"a.txt", SomeText(1, 200)}, {"b.txt", ""}}, "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  ASSERT_OK(fixture_->Curate("d", recipe, "c1"));
  const std::string metrics = fixture_->registry().Serialize();
  EXPECT_THAT(metrics, HasSubstr("sinklora_curator_records_total{outcome="
                                 "\"kept\",reason=\"NONE\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("sinklora_curator_records_total{outcome="
                                 "\"rejected\",reason=\"EMPTY\"} 1"));
  EXPECT_THAT(metrics,
              HasSubstr(fmt::format("sinklora_curator_source_bytes_total {}",
                                    SomeText(1, 200).size())));
  EXPECT_THAT(metrics,
              HasSubstr("sinklora_curator_curate_duration_seconds_count 1"));
}

TEST_F(CuratorCoreTest, ProgressIsLimitedButCompleteByStage) {
  std::string lines;
  for (int i = 0; i < 600; ++i) {
    lines += fmt::format("{{\"instruction\":\"{}\",\"output\":\"x\"}}\n", i);
  }
  ASSERT_OK(fixture_->Import("docs", {{"a.jsonl", lines}}, "r1"));
  std::vector<std::string> events;
  ASSERT_OK(core().Curate({"d", RecipeOf({"docs"}), "c1"}, NotCancelled,
                          [&](const char* stage, int64_t done, int64_t) {
                            events.push_back(fmt::format("{} {}", stage, done));
                          }));
  // The clock stands still: of each stage, the first report and the last.
  EXPECT_THAT(events, ElementsAre("read 256", "read 600", "deduplicate 600",
                                  "tokenize 256", "tokenize 600", "pack 600",
                                  "write 600"));
}

}  // namespace
}  // namespace sinklora::curator
