// Broken files and impossible requests: each is refused by its cause, nothing
// of it is kept, and the processes go on serving.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

enum ExitCode { kRefused = 2, kNotFound = 3 };

class BadInputTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartWithData());
    before_ = Everything();
  }

  // After every test: nothing came of what was refused, and all works.
  void TearDown() override {
    if (HasFatalFailure()) return;
    EXPECT_EQ(Everything(), before_);
    for (const Part part : kAllParts) {
      EXPECT_TRUE(cluster_->process(part)->running()) << PartName(part);
    }
    ASSERT_OK_AND_ASSIGN(const std::string job, Submit("good", 2, 0));
    EXPECT_THAT(WaitForSuccess(job), IsOk());
    EXPECT_THAT(
        cluster_->CliJson({"generate", "--model", "tiny", "--adapter", "good",
                           "--prompt", "x", "--max-tokens", "2"}),
        IsOk());
  }

  // All that the services keep and list, and what lies in their staging
  // directories.
  nlohmann::json Everything() {
    nlohmann::json all;
    for (const char* kind : {"model", "dataset", "train"}) {
      const auto list = cluster_->CliJson({kind, "list"});
      EXPECT_THAT(list, IsOk());
      all[kind] = list.value_or(nlohmann::json());
    }
    all["sources"] =
        Metric(Part::kCurator, "sinklora_curator_sources").value_or(-1);
    all["source files"] = FilesOf(Part::kCurator, "sources");
    all["model files"] = FilesOf(Part::kTrainer, "models");
    EXPECT_THAT(FilesOf(Part::kCurator, "staging"), IsEmpty());
    EXPECT_THAT(FilesOf(Part::kTrainer, "staging"), IsEmpty());
    return all;
  }

  // The command ends with `code`, says each of `words`, and nothing of where
  // the service keeps its files.
  void ExpectRefusal(const std::vector<std::string>& arguments, int code,
                     const std::vector<std::string>& words) {
    ASSERT_OK_AND_ASSIGN(const auto result, cluster_->Cli(arguments));
    EXPECT_EQ(result.exit_code, code) << result.err;
    for (const std::string& word : words) {
      EXPECT_THAT(result.err, HasSubstr(word));
    }
    EXPECT_THAT(result.err, ::testing::StartsWith("error: "));
    EXPECT_THAT(result.err, ::testing::Not(HasSubstr("staging")));
    EXPECT_THAT(result.err, ::testing::Not(HasSubstr("error: :")));
  }

  // Imports the tiny model with `file` replaced by what `change` makes of it.
  void ExpectModelRefusal(const std::string& file,
                          const std::function<std::string(std::string)>& change,
                          const std::vector<std::string>& words) {
    SCOPED_TRACE(file);
    const std::string directory = Scratch("broken");
    ASSERT_THAT(RemoveAll(directory), IsOk());
    std::filesystem::copy(Scratch("model"), directory);
    const std::string path = JoinPath(directory, file);
    ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(path));
    ASSERT_THAT(WriteFileAtomic(path, change(content)), IsOk());
    ExpectRefusal({"model", "import", "broken", directory}, kRefused, words);
  }

  void ExpectSourceRefusal(const std::string& file, const std::string& content,
                           const std::vector<std::string>& words) {
    SCOPED_TRACE(file);
    ASSERT_THAT(WriteFileAtomic(Scratch(file), content), IsOk());
    ExpectRefusal({"dataset", "import", "broken", Scratch(file)}, kRefused,
                  words);
  }

  nlohmann::json before_;
};

// `text` with the first `from` replaced.
std::string Replaced(std::string text, const std::string& from,
                     const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST_F(BadInputTest, Models) {
  const std::string config = "config.json";
  const std::string weights = "model.safetensors";
  ExpectModelRefusal(weights,
                     [](const std::string& bytes) {
                       return bytes.substr(0, bytes.size() - 100);
                     },
                     {weights, "tensor 'model.", "data_offsets", "bytes"});
  ExpectModelRefusal(
      weights,
      [](std::string bytes) {
        return bytes.replace(0, 8, "\xff\xff\xff\xff\xff\xff\xff\x7f");
      },
      {weights, "header length 9223372036854775807", "limit of 100000000"});
  ExpectModelRefusal(weights,
                     [](std::string bytes) {
                       return Replaced(std::move(bytes), "model.norm.weight",
                                       "model.Norm.weight");
                     },
                     {"model.norm.weight"});
  ExpectModelRefusal(config,
                     [](std::string json) {
                       return Replaced(std::move(json), "\"hidden_size\": 32",
                                       "\"hidden_size\": \"wide\"");
                     },
                     {config, "hidden_size", "\"wide\"", "integer"});
  ExpectModelRefusal(config,
                     [](std::string json) {
                       return Replaced(std::move(json),
                                       "\"num_hidden_layers\": 2",
                                       "\"num_hidden_layers\": 99");
                     },
                     {"num_hidden_layers 99", config});
  ExpectModelRefusal(config,
                     [](const std::string& json) { return json.substr(0, 40); },
                     {config, "not valid JSON"});
  ExpectModelRefusal(
      "tokenizer.json",
      [](const std::string& json) { return json.substr(0, json.size() / 2); },
      {"tokenizer.json", "not valid JSON"});
  ASSERT_THAT(RemoveAll(Scratch("broken/tokenizer.json")), IsOk());
  ExpectRefusal({"model", "import", "broken", Scratch("broken")}, kRefused,
                {"tokenizer.json", "tokenizer.model"});
  ExpectRefusal({"model", "import", "broken", Scratch("absent")}, kNotFound,
                {Scratch("absent")});
}

TEST_F(BadInputTest, SourcesAndDatasets) {
  const auto lines = [](const std::string& seventeenth) {
    std::string all;
    for (int line = 1; line <= 20; ++line) {
      all +=
          line == 17 ? seventeenth : R"({"instruction": "a", "output": "b"})";
      all += "\n";
    }
    return all;
  };
  ExpectSourceRefusal("bad.jsonl", lines("{broken"),
                      {"\"bad.jsonl\", line 17", "not valid JSON", "column 2"});
  ExpectSourceRefusal(
      "field.jsonl", lines(R"({"instruction": "a", "output": 42})"),
      {"\"field.jsonl\", line 17", "\"output\" is 42", "must be a string"});
  ExpectSourceRefusal(
      "missing.jsonl", lines(R"({"output": "b"})"),
      {"\"missing.jsonl\", line 17", "\"instruction\" is missing"});
  ExpectSourceRefusal("latin.txt", "caf\xe9 at noon\n",
                      {"\"latin.txt\"", "UTF-8", "byte 3", "0xE9"});
  ExpectSourceRefusal("empty.jsonl", "",
                      {"\"empty.jsonl\"", "no record", "at least 1"});
  ExpectSourceRefusal("book.pdf", "x", {"\"book.pdf\"", "\".pdf\"", ".jsonl"});
  ExpectRefusal({"dataset", "import", "broken", Scratch("absent.txt")},
                kNotFound, {Scratch("absent.txt")});

  const auto curate = [this](const std::string& source,
                             const std::string& tokenizer,
                             const std::string& context, int code,
                             const std::vector<std::string>& words) {
    SCOPED_TRACE(source);
    ExpectRefusal({"dataset", "curate", "broken", "--source", source,
                   "--tokenizer-model", tokenizer, "--context", context},
                  code, words);
  };
  curate("text", "tiny", "8", kRefused,
         {"context_tokens is 8", "[16, 1048576]"});
  curate("text", "nobody", "128", kNotFound, {"model \"nobody\""});
  curate("nobody", "tiny", "128", kNotFound, {"source \"nobody\""});
}

// These sources are well-formed, and kept; no dataset comes of them.
TEST_F(BadInputTest, DatasetsWithoutExamples) {
  const auto import = [this](const std::string& name, const std::string& file,
                             const std::string& content) {
    ASSERT_THAT(WriteFileAtomic(Scratch(file), content), IsOk());
    ASSERT_THAT(cluster_->CliJson({"dataset", "import", name, Scratch(file)}),
                IsOk());
  };
  import("blank", "blank.txt", " \n");
  std::string question;
  for (int i = 0; i < 300; ++i) question += "Why? ";
  import("unanswerable", "unanswerable.jsonl",
         R"({"instruction": ")" + question + R"(", "output": "b"})" + "\n");
  before_ = Everything();
  for (const auto& [source, reason] :
       {std::pair("blank", "1 EMPTY"),
        std::pair("unanswerable", "1 NO_SUPERVISED_TOKENS")}) {
    SCOPED_TRACE(source);
    ExpectRefusal({"dataset", "curate", "broken", "--source", source,
                   "--tokenizer-model", "tiny", "--context", "128"},
                  kRefused,
                  {"no training example", "of 1 records", reason, "0 kept",
                   "context_tokens 128"});
  }
}

TEST_F(BadInputTest, JobsAndGenerations) {
  const auto submit = [this](const std::vector<std::string>& flags, int code,
                             const std::vector<std::string>& words) {
    // A later flag takes the place of an earlier one of these.
    std::map<std::string, std::string> all = {{"--model", "tiny"},
                                              {"--dataset", "set"},
                                              {"--output", "broken"},
                                              {"--steps", "1"}};
    for (size_t i = 0; i < flags.size(); i += 2) all[flags[i]] = flags[i + 1];
    std::vector<std::string> arguments = {"train", "submit"};
    for (const auto& [flag, value] : all) {
      arguments.insert(arguments.end(), {flag, value});
    }
    ExpectRefusal(arguments, code, words);
  };
  submit({"--model", "nobody"}, kNotFound, {"base_model", "nobody"});
  submit({"--dataset", "nobody"}, kNotFound, {"dataset \"nobody\""});
  submit({"--steps", "0"}, kRefused, {"steps is 0", "[1, 10000000]"});
  submit({"--context", "99999999"}, kRefused,
         {"context_tokens is 99999999", "1048576"});
  submit({"--context", "64"}, kRefused,
         {"context_tokens is 64", ">= 128", "dataset set"});
  submit({"--group-ratio", "2"}, kRefused,
         {"attention.group_ratio is 2", "(0, 1]"});
  ExpectRefusal({"train", "show", "job-000000000000"}, kNotFound,
                {"job-000000000000"});

  const auto generate = [this](const std::vector<std::string>& flags, int code,
                               const std::vector<std::string>& words) {
    std::vector<std::string> arguments = {"generate", "--model", "tiny"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    ExpectRefusal(arguments, code, words);
  };
  ExpectRefusal({"generate", "--model", "nobody", "--prompt", "x"}, kNotFound,
                {"model nobody"});
  generate({"--prompt", "x", "--adapter", "nobody"}, kNotFound,
           {"adapter nobody"});
  // One token a byte, and one before the first.
  generate({"--prompt", std::string(2000, '~'), "--max-tokens", "8"}, kRefused,
           {"prompt of 2001 tokens", "max_tokens 8", "2009",
            "context of 64 tokens"});
  generate({"--prompt", "x", "--max-tokens", "600"}, kRefused,
           {"max_tokens 600", "context of 64 tokens"});
  generate({"--prompt", "x", "--context", "99999999"}, kRefused,
           {"context_tokens is 99999999", "1048576"});
  generate({"--prompt", "x", "--max-tokens", "8", "--cache", "h2o",
            "--cache-budget-tokens", "0"},
           kRefused, {"budget_tokens is 0", ">= 1"});
  generate({"--prompt", "x", "--max-tokens", "8", "--cache", "h2o",
            "--cache-budget-tokens", "4", "--recent-tokens", "9"},
           kRefused, {"recent_tokens is 9", "[0, 3]"});
}

}  // namespace
}  // namespace sinklora::testing
