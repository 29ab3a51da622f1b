// What a dataset holds: deduplication, splits, packing, masks, ledger, digests.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "common/base/hash.h"
#include "common/text/chat_template.h"
#include "nlohmann/json.hpp"
#include "services/curator/dataset_builder.h"
#include "services/curator/record_scan.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(fixture_, CuratorFixture::Create());
  }

  // `count` documents of some 60 words as files doc-<i>.txt.
  static Files Documents(int count) {
    Files files;
    for (int i = 0; i < count; ++i) {
      files[fmt::format("doc-{:03}.txt", i)] =
          SomeText(100 + static_cast<uint64_t>(i), 60);
    }
    return files;
  }

  std::vector<json> Ledger(const DatasetInfo& dataset) {
    std::vector<json> lines;
    const auto text = fixture_->DatasetFile(dataset, kLedgerFile);
    EXPECT_OK(text);
    size_t begin = 0;
    for (size_t end; (end = text->find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      lines.push_back(json::parse(text->substr(begin, end - begin)));
    }
    return lines;
  }

  // Ledger and counts must tell the same story.
  void CheckLedger(const DatasetInfo& dataset) {
    const Counts& counts = dataset.counts;
    std::map<std::string, int64_t> rejected, tokens;
    int64_t kept = 0;
    const auto lines = Ledger(dataset);
    for (const json& line : lines) {
      if (line.at("outcome") == "kept") {
        ++kept;
        tokens[line.at("split")] += line.at("tokens").get<int64_t>();
      } else {
        ++rejected[line.at("reason")];
      }
    }
    EXPECT_EQ(static_cast<int64_t>(lines.size()), counts.input_records);
    EXPECT_EQ(kept, counts.kept_records);
    for (const auto& [reason, records] : counts.rejected_records) {
      EXPECT_EQ(rejected[reason], records) << reason;
    }
    EXPECT_EQ(tokens["train"], counts.train_tokens);
    EXPECT_EQ(tokens["validation"], counts.validation_tokens);
  }

  std::unique_ptr<CuratorFixture> fixture_;
};

TEST_F(DatasetTest, RejectionsAreCountedByReasonAndExplained) {
  ASSERT_OK(fixture_->Import("first",
                             {{"a.txt", SomeText(1, 80)},
                              {"b.txt", SomeText(2, 80)},
                              {"empty.txt", ""},
                              {"same-as-a.txt", SomeText(1, 80)},
                              {"tiny.txt", "tiny"},
                              {"white.txt", " \n\t\n"}},
                             "r1"));
  std::string crlf = "\xEF\xBB\xBF" + SomeText(2, 80);
  for (size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos;
       at += 2) {
    crlf.replace(at, 1, "\r\n");
  }
  ASSERT_OK(fixture_->Import("second", {{"b-crlf.txt", crlf}}, "r2"));
  Recipe recipe = RecipeOf({"first", "second"});
  recipe.min_document_bytes = 10;
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "r3"));
  EXPECT_EQ(dataset.counts.input_records, 7);
  EXPECT_EQ(dataset.counts.kept_records, 2);
  EXPECT_EQ(dataset.counts.rejected_records.at("DUPLICATE"), 2);
  EXPECT_EQ(dataset.counts.rejected_records.at("EMPTY"), 2);
  EXPECT_EQ(dataset.counts.rejected_records.at("TOO_SHORT"), 1);
  EXPECT_EQ(dataset.counts.rejected_records.at("NO_SUPERVISED_TOKENS"), 0);
  CheckLedger(dataset);
  const auto ledger = Ledger(dataset);
  EXPECT_EQ(ledger[3].at("file"), "same-as-a.txt");
  EXPECT_EQ(ledger[3].at("duplicate_of").at("file"), "a.txt");
  EXPECT_EQ(ledger[6].at("duplicate_of").at("source"), "first");
  EXPECT_EQ(ledger[6].at("duplicate_of").at("file"), "b.txt");
}

TEST_F(DatasetTest, PackedTextHoldsEveryDocumentOnceBetweenItsMarks) {
  ASSERT_OK(fixture_->Import("docs", Documents(20), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0.3;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "r2"));
  CheckLedger(dataset);
  std::vector<int32_t> stream;
  int64_t supervised = 0;
  std::multiset<std::string> found;
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    ASSERT_OK_AND_ASSIGN(const auto examples, fixture_->Examples("d", split));
    stream.clear();
    for (size_t e = 0; e < examples.size(); ++e) {
      const auto& example = examples[e];
      if (e + 1 < examples.size()) {
        EXPECT_EQ(example.token_ids.size(), 64u);
      }
      stream.insert(stream.end(), example.token_ids.begin(),
                    example.token_ids.end());
      if (split == Split::kTrain) {
        supervised += std::accumulate(example.supervised.begin(),
                                      example.supervised.end(), int64_t{0});
      }
    }
    // Cut the stream at the begin token: the documents, in some order.
    for (size_t begin = 0; begin < stream.size();) {
      ASSERT_EQ(stream[begin], *fixture_->tokenizer().bos_id());
      size_t end = begin + 1;
      while (end < stream.size() &&
             stream[end] != *fixture_->tokenizer().bos_id()) {
        ++end;
      }
      const std::vector<int32_t> ids(stream.begin() + begin,
                                     stream.begin() + end);
      ASSERT_OK_AND_ASSIGN(const std::string text,
                           fixture_->tokenizer().Decode(ids));
      if (ids.back() == *fixture_->tokenizer().eos_id()) found.insert(text);
      begin = end;
    }
  }
  EXPECT_EQ(supervised, dataset.counts.train_supervised_tokens);
  const auto documents = Documents(20);
  int64_t whole = 0;
  for (const auto& [path, text] : documents) {
    whole += static_cast<int64_t>(found.count(text));
    EXPECT_LE(found.count(text), 1u) << path;
  }
  // At most one document a split loses its end in the dropped last example.
  EXPECT_GE(whole, 18);
  EXPECT_GT(dataset.counts.validation_examples, 0);
}

TEST_F(DatasetTest, TextBytesOfByteLevelTokensAreThoseOfTheText) {
  ASSERT_OK(fixture_->Import("docs", Documents(5), "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "r2"));
  ASSERT_OK_AND_ASSIGN(const auto examples,
                       fixture_->Examples("d", Split::kTrain));
  int64_t bytes = 0;
  for (const auto& example : examples) {
    for (const int32_t id : example.token_ids) {
      bytes +=
          static_cast<int64_t>(fixture_->tokenizer().TokenBytes(id).size());
    }
  }
  EXPECT_EQ(dataset.counts.train_text_bytes, bytes);
}

TEST_F(DatasetTest, DigestDependsOnRecipeAndSourcesNotOnThreadsOrTime) {
  std::set<std::string> digests;
  for (const int threads : {1, 4, 4}) {
    ASSERT_OK_AND_ASSIGN(auto fixture, CuratorFixture::Create(threads));
    ASSERT_OK(fixture->Import("docs", Documents(30), "r1"));
    fixture->clock().AdvanceSeconds(threads);
    ASSERT_OK_AND_ASSIGN(
        const DatasetInfo dataset,
        fixture->Curate(fmt::format("d{}", threads), RecipeOf({"docs"}), "r2"));
    digests.insert(dataset.digest);
    ASSERT_OK_AND_ASSIGN(const std::string manifest,
                         fixture->DatasetFile(dataset, kManifestFile));
    EXPECT_EQ(Sha256Hex(manifest), dataset.digest);
  }
  EXPECT_EQ(digests.size(), 1u);

  ASSERT_OK(fixture_->Import("docs", Documents(30), "r1"));
  ASSERT_OK(fixture_->Import("more", Documents(31), "r2"));
  Recipe seed = RecipeOf({"docs"});
  seed.seed = 1;
  Recipe context = RecipeOf({"docs"});
  context.context_tokens = 65;
  int n = 0;
  for (const Recipe& recipe : {seed, context, RecipeOf({"more"})}) {
    const std::string name = fmt::format("other-{}", n++);
    ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                         fixture_->Curate(name, recipe, name));
    EXPECT_TRUE(digests.insert(dataset.digest).second) << name;
  }
}

TEST_F(DatasetTest, ADocumentKeepsItsSplitWhenOthersCome) {
  ASSERT_OK(fixture_->Import("few", Documents(40), "r1"));
  ASSERT_OK(fixture_->Import("many", Documents(80), "r2"));
  std::map<std::string, std::string> splits;
  int compared = 0;
  for (const char* source : {"few", "many"}) {
    Recipe recipe = RecipeOf({source});
    recipe.validation_fraction = 0.25;
    recipe.seed = 5;
    ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                         fixture_->Curate(source, recipe, source));
    for (const json& line : Ledger(dataset)) {
      if (line.at("outcome") != "kept") continue;
      const auto [it, inserted] =
          splits.emplace(line.at("content_sha256"), line.at("split"));
      if (inserted) continue;
      EXPECT_EQ(it->second, line.at("split"));
      ++compared;
    }
  }
  EXPECT_EQ(compared, 40);
}

TEST_F(DatasetTest, SplitFractionIsMet) {
  int validation = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string sha = Sha256Hex(std::to_string(i));
    if (SplitOf(sha, 3, 0.1) == Split::kValidation) ++validation;
    EXPECT_EQ(SplitOf(sha, 3, 0), Split::kTrain);
    // A larger share only adds to a smaller one.
    if (SplitOf(sha, 3, 0.1) == Split::kValidation) {
      EXPECT_EQ(SplitOf(sha, 3, 0.2), Split::kValidation);
    }
  }
  EXPECT_NEAR(validation, 2000, 6 * 42.5);  // 6 standard deviations
}

std::string RecordLine(const std::string& instruction, const std::string& input,
                       const std::string& output) {
  return json({{"instruction", instruction},
               {"input", input},
               {"output", output}})
             .dump() +
         "\n";
}

TEST_F(DatasetTest, InstructionExamplesSuperviseTheAnswerOnly) {
  ASSERT_OK(fixture_->Import(
      "qa", {{"a.jsonl", RecordLine("Name the sea.", "deep", "The old sea.")}},
      "r1"));
  Recipe recipe = RecipeOf({"qa"});
  recipe.validation_fraction = 0;
  recipe.context_tokens = 512;
  recipe.system_prompt = "Be brief.";
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "r2"));
  EXPECT_EQ(dataset.recipe.builder, Builder::kInstruction);
  EXPECT_EQ(dataset.recipe.chat_template, "llama-2");
  ASSERT_OK_AND_ASSIGN(
      const EncodedChat chat,
      EncodeChat(fixture_->tokenizer(), NamedChatFormat(ChatTemplate::kLlama2),
                 {{"system", "Be brief."},
                  {"user", "Name the sea.\n\ndeep"},
                  {"assistant", "The old sea."}}));
  ASSERT_OK_AND_ASSIGN(const auto examples,
                       fixture_->Examples("d", Split::kTrain));
  ASSERT_EQ(examples.size(), 1u);
  EXPECT_EQ(examples[0].token_ids, chat.token_ids);
  EXPECT_EQ(examples[0].supervised, chat.supervised);
  std::vector<int32_t> answer;
  for (size_t i = 0; i < chat.token_ids.size(); ++i) {
    if (examples[0].supervised[i]) answer.push_back(examples[0].token_ids[i]);
  }
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       fixture_->tokenizer().Decode(answer));
  EXPECT_THAT(text, HasSubstr("The old sea."));
  EXPECT_EQ(text.find("Name"), std::string::npos);
}

TEST_F(DatasetTest, LongRecordsAreCutAtTheEndOrRejected) {
  ASSERT_OK(fixture_->Import(
      "qa",
      {{"a.jsonl", RecordLine("short", "", SomeText(1, 300)) +
                       RecordLine(SomeText(2, 300), "", "never seen") +
                       RecordLine("fits", "", "yes")}},
      "r1"));
  Recipe recipe = RecipeOf({"qa"});
  recipe.validation_fraction = 0;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                       fixture_->Curate("d", recipe, "r2"));
  EXPECT_EQ(dataset.counts.kept_records, 2);
  EXPECT_EQ(dataset.counts.rejected_records.at("NO_SUPERVISED_TOKENS"), 1);
  EXPECT_EQ(dataset.counts.truncated_records, 1);
  CheckLedger(dataset);
  const auto ledger = Ledger(dataset);
  EXPECT_EQ(ledger[0].at("tokens"), 64);
  EXPECT_GT(ledger[0].at("dropped_tokens"), 0);
  EXPECT_EQ(ledger[1].at("reason"), "NO_SUPERVISED_TOKENS");
  ASSERT_OK_AND_ASSIGN(const auto examples,
                       fixture_->Examples("d", Split::kTrain));
  for (const auto& example : examples) {
    EXPECT_LE(example.token_ids.size(), 64u);
    EXPECT_GT(std::accumulate(example.supervised.begin(),
                              example.supervised.end(), 0),
              0);
  }
}

TEST_F(DatasetTest, NothingLeftIsAnErrorWithTheCounts) {
  ASSERT_OK(
      fixture_->Import("docs", {{"a.txt", ""}, {"b.txt", "short"}}, "r1"));
  const auto result = fixture_->Curate("d", RecipeOf({"docs"}), "r2");
  EXPECT_THAT(result,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("no training example"),
                             HasSubstr("2 records"), HasSubstr("1 EMPTY"))));
  EXPECT_EQ(GetErrorDetail(result.status()).reason, "EMPTY_DATASET");
  EXPECT_THAT(fixture_->core().GetDataset("d"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(DatasetTest, BadRecipesNameFieldValueAndLimit) {
  ASSERT_OK(fixture_->Import("docs", Documents(2), "r1"));
  ASSERT_OK(fixture_->Import(
      "qa", {{"a.json", "[" + RecordLine("a", "", "b") + "]"}}, "r2"));
  int n = 0;
  const auto expect = [&](const Recipe& recipe, absl::StatusCode code,
                          const std::string& text) {
    EXPECT_THAT(fixture_->Curate("d", recipe, fmt::format("bad-{}", n++)),
                StatusIs(code, HasSubstr(text)));
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  Recipe recipe = RecipeOf({"docs"});
  recipe.context_tokens = 15;
  expect(recipe, invalid, "context_tokens is 15, must be in [16, 1048576]");
  recipe.context_tokens = 1048577;
  expect(recipe, invalid, "context_tokens is 1048577");
  recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0.6;
  expect(recipe, invalid, "validation_fraction is 0.6, must be in [0, 0.5]");
  recipe.validation_fraction = std::numeric_limits<double>::quiet_NaN();
  expect(recipe, invalid, "validation_fraction is nan");
  recipe = RecipeOf({"docs"});
  recipe.min_document_bytes = -1;
  expect(recipe, invalid, "min_document_bytes is -1");
  recipe = RecipeOf({"docs"});
  recipe.chat_template = "phi-3";
  expect(recipe, invalid, "phi-3");
  expect(RecipeOf({}), invalid, "sources is a list of 0");
  expect(RecipeOf({"docs", "docs"}), invalid, "\"docs\" twice");
  expect(RecipeOf({"../x"}), invalid, "../x");
  expect(RecipeOf({"nowhere"}), absl::StatusCode::kNotFound, "nowhere");
  expect(RecipeOf({"docs", "qa"}), invalid, "\"qa\" holds instruction");
  recipe = RecipeOf({"docs"});
  recipe.builder = Builder::kInstruction;
  expect(recipe, invalid, "builder is instruction");
  recipe = RecipeOf({"docs"});
  recipe.tokenizer_model = "unknown";
  expect(recipe, absl::StatusCode::kNotFound, "unknown");
}

TEST_F(DatasetTest, ADocumentThatWasDroppedWithTheTailIsTooShort) {
  ASSERT_OK(fixture_->Import("docs",
                             {{"a.txt", SomeText(1, 400)},
                              {"b.txt", "the sea"},
                              {"c.txt", "the ship"}},
                             "r1"));
  Recipe recipe = RecipeOf({"docs"});
  recipe.validation_fraction = 0;
  recipe.context_tokens = 4096;
  ASSERT_OK_AND_ASSIGN(const DatasetInfo all,
                       fixture_->Curate("all", recipe, "c0"));
  ASSERT_EQ(all.counts.train_examples, 1);
  // A context that leaves 12 tokens over: more than a short document has.
  const int64_t total = all.counts.train_tokens;
  for (recipe.context_tokens = 17; total % recipe.context_tokens != 12;) {
    ASSERT_LT(++recipe.context_tokens, total);
  }
  int64_t too_short = 0;
  for (recipe.seed = 0; recipe.seed < 8; ++recipe.seed) {
    const std::string name = fmt::format("d{}", recipe.seed);
    ASSERT_OK_AND_ASSIGN(const DatasetInfo dataset,
                         fixture_->Curate(name, recipe, name));
    CheckLedger(dataset);
    const Counts& counts = dataset.counts;
    EXPECT_EQ(counts.dropped_tokens, 12);
    EXPECT_EQ(counts.train_tokens, total - 12);
    EXPECT_EQ(counts.kept_records + counts.rejected_records.at("TOO_SHORT"), 3);
    too_short += counts.rejected_records.at("TOO_SHORT");
  }
  EXPECT_GT(too_short, 0);
}

}  // namespace
}  // namespace sinklora::curator
