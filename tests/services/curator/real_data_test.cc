// The curator on real books and instruction records, where the shared inputs
// are.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "services/curator/source_import.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class RealDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("SINKLORA_SHARED_DIR");
    if (shared == nullptr ||
        !FileExists(JoinPath(shared, "data/MANIFEST.md"))) {
      GTEST_SKIP()
          << "SINKLORA_SHARED_DIR with data/ is not there: the curator "
             "is NOT tested on real data";
    }
    data_ = JoinPath(shared, "data");
    ASSERT_OK_AND_ASSIGN(fixture_, CuratorFixture::Create());
  }

  // Files of `folder` with their content.
  Files Read(const std::string& folder) {
    Files files;
    const auto paths = ListFilesRecursive(JoinPath(data_, folder));
    EXPECT_OK(paths);
    for (const std::string& path : *paths) {
      const auto content = ReadFile(JoinPath(data_, folder + "/" + path));
      EXPECT_OK(content);
      files[path] = *content;
    }
    return files;
  }

  std::string data_;
  std::unique_ptr<CuratorFixture> fixture_;
};

TEST_F(RealDataTest, BooksArePackedWithoutLoss) {
  const Files books = Read("books");
  ASSERT_GT(books.size(), 5u);
  ASSERT_OK_AND_ASSIGN(const SourceInfo source,
                       fixture_->Import("books", books, "r1"));
  EXPECT_EQ(source.record_count, static_cast<int64_t>(books.size()));
  ASSERT_OK_AND_ASSIGN(const auto reader, fixture_->core().NewUploadDir());
  Recipe recipe = RecipeOf({"books"});
  recipe.context_tokens = 2048;
  recipe.validation_fraction = 0.2;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("books", recipe, "c1"));
  const Counts& counts = dataset.counts;
  EXPECT_EQ(counts.kept_records, source.record_count);
  EXPECT_GT(counts.train_examples, 1000);
  EXPECT_GT(counts.validation_examples, 0);
  int64_t text_bytes = 0;
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    ASSERT_OK_AND_ASSIGN(const auto examples,
                         fixture_->Examples("books", split));
    for (const TrainingExample& example : examples) {
      ASSERT_OK_AND_ASSIGN(const std::string text,
                           fixture_->tokenizer().Decode(example.token_ids));
      EXPECT_EQ(text.find('\r'), std::string::npos);
      EXPECT_EQ(text.find("\xEF\xBB\xBF"), std::string::npos);
      text_bytes += static_cast<int64_t>(text.size());
    }
  }
  // All but what the two last examples may have lost.
  EXPECT_LE(text_bytes, source.text_bytes);
  EXPECT_GE(text_bytes, source.text_bytes - 2 * 16 * 16);
}

TEST_F(RealDataTest, InstructionRecordsAreAllAccountedFor) {
  ASSERT_OK_AND_ASSIGN(
      const std::string gsm,
      ReadFile(JoinPath(data_, "instruct/gsm_8k_train_alpaca.json")));
  ASSERT_OK_AND_ASSIGN(
      const std::string identity,
      ReadFile(JoinPath(data_, "instruct/identity_alpaca.json")));
  ASSERT_OK(fixture_->Import("gsm", {{"gsm.json", gsm}}, "r1"));
  ASSERT_OK(fixture_->Import(
      "again", {{"gsm.json", gsm}, {"identity.json", identity}}, "r2"));
  Recipe recipe = RecipeOf({"gsm", "again"});
  recipe.context_tokens = 512;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "c1"));
  const Counts& counts = dataset.counts;
  EXPECT_EQ(counts.input_records, 2 * 7473 + 91);
  EXPECT_EQ(counts.rejected_records.at("DUPLICATE"), 7473);
  int64_t rejected = 0;
  for (const auto& [reason, records] : counts.rejected_records) {
    rejected += records;
  }
  EXPECT_EQ(counts.kept_records + rejected, counts.input_records);
  EXPECT_EQ(counts.train_examples + counts.validation_examples,
            counts.kept_records);
  EXPECT_GT(counts.validation_examples, 200);
}

TEST_F(RealDataTest, RecordsOfAnotherShapeAreRefusedByLineAndField) {
  ASSERT_OK_AND_ASSIGN(
      const std::string seeds,
      ReadFile(JoinPath(data_, "instruct/alpaca_seed_tasks.jsonl")));
  EXPECT_THAT(fixture_->Import("seeds", {{"seeds.jsonl", seeds}}, "r1"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("seeds.jsonl"), HasSubstr("line 1"),
                             HasSubstr("\"output\" is missing"))));
}

}  // namespace
}  // namespace sinklora::curator
