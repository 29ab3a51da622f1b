// Templates of published models are recognised, and chats encoded in the format
// found read as transformers renders them (tests/parity/make_chat_goldens.py).
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "common/text/chat_template_detection.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

const std::vector<std::string> kSpecialTokens = {"<s>",
                                                 "</s>",
                                                 "<|im_start|>",
                                                 "<|im_end|>",
                                                 "<|eot_id|>",
                                                 "<|start_header_id|>",
                                                 "<|end_header_id|>",
                                                 "<|user|>"};

json Golden() {
  const char* source = std::getenv("SINKLORA_SOURCE_DIR");
  return json::parse(ReadFile(JoinPath(source == nullptr ? "." : source,
                                       "tests/parity/data/chat/golden.json"))
                         .value());
}

std::vector<ChatTurn> Turns(const json& chat) {
  std::vector<ChatTurn> turns;
  for (const json& turn : chat)
    turns.push_back({turn["role"], turn["content"]});
  return turns;
}

class ChatDetectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(
        tokenizer_,
        testing::LoadTokenizer(
            {{"tokenizer.json", testing::SmallTokenizerJson(kSpecialTokens)},
             {"tokenizer_config.json",
              R"({"bos_token": "<s>", "eos_token": "</s>"})"}}));
  }

  std::string Text(int32_t id) const {
    return static_cast<size_t>(id) < kSpecialTokens.size()
               ? kSpecialTokens[id]
               : tokenizer_->TokenBytes(id);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(ChatDetectionTest, ChatsReadAsTheModelsOwnTemplatesRenderThem) {
  const json golden = Golden();
  int compared = 0;
  for (const json& known : golden["known"]) {
    SCOPED_TRACE(std::string(known["name"]));
    ASSERT_OK_AND_ASSIGN(const ChatFormat format,
                         DetectChatFormat(std::string(known["template"]), "x"));
    EXPECT_EQ(ChatTemplateName(format.chat_template), known["is"]);
    for (size_t i = 0; i < golden["chats"].size(); ++i) {
      const std::vector<ChatTurn> turns = Turns(golden["chats"][i]);
      const auto chat = EncodeChat(*tokenizer_, format, turns);
      if (known["rendered"][i].is_null()) {
        EXPECT_THAT(chat, StatusIs(kInvalid, HasSubstr("no system turn")));
        continue;
      }
      ASSERT_OK(chat);
      // Kept here, see ChatFormat::System.
      if (format.system == ChatFormat::System::kInLastUser &&
          turns[0].role == "system" && turns.back().role == "assistant") {
        continue;
      }
      std::string text;
      for (int32_t id : chat->token_ids) text += Text(id);
      EXPECT_EQ(text, known["rendered"][i]) << i;
      ++compared;
    }
  }
  EXPECT_GE(compared, 70);
}

// The supervised tokens are the answers as rendered, each with its end token.
TEST_F(ChatDetectionTest, AnswersAndTheirEndTokensAreSupervised) {
  const json golden = Golden();
  for (const json& known : golden["known"]) {
    SCOPED_TRACE(std::string(known["name"]));
    ASSERT_OK_AND_ASSIGN(const ChatFormat format,
                         DetectChatFormat(std::string(known["template"]), "x"));
    ASSERT_OK_AND_ASSIGN(const auto chat, EncodeChat(*tokenizer_, format,
                                                     {{"user", "q1"},
                                                      {"assistant", "a1"},
                                                      {"user", "q2"},
                                                      {"assistant", "a2"}}));
    std::string supervised;
    for (size_t i = 0; i < chat.token_ids.size(); ++i) {
      if (chat.supervised[i] != 0) supervised += Text(chat.token_ids[i]);
    }
    const std::string end =
        format.end_token.empty() ? "</s>" : format.end_token;
    EXPECT_EQ(supervised,
              fmt::format("{0}a1{1}{2}{0}a2{1}{2}", format.answer_prefix,
                          format.answer_suffix, end));
  }
}

TEST_F(ChatDetectionTest, OtherTemplatesAreRefusedWithTheList) {
  const json golden = Golden();  // outlives the loop
  for (const json& unknown : golden["unknown"]) {
    EXPECT_THAT(DetectChatFormat(std::string(unknown["template"]), "dir"),
                StatusIs(kInvalid, AllOf(HasSubstr("dir: the chat template"),
                                         HasSubstr("llama-2, llama-3"))))
        << unknown["name"];
  }
}

TEST(ChatTemplateFilesTest, EveryPlaceOfATemplateIsRead) {
  const auto read = [](const std::map<std::string, std::string>& files) {
    const auto dir = TempDir::Create().value();
    for (const auto& [name, content] : files) {
      EXPECT_OK(WriteFileAtomic(JoinPath(dir->path(), name), content));
    }
    return ReadChatTemplate(dir->path());
  };
  EXPECT_EQ(read({}).value(), std::nullopt);
  EXPECT_EQ(read({{"tokenizer_config.json", "{}"}}).value(), std::nullopt);
  const std::string config = R"({"chat_template": "b"})";
  EXPECT_EQ(read({{"tokenizer_config.json", config}}).value(), "b");
  EXPECT_EQ(read({{"chat_template.json", config}}).value(), "b");
  EXPECT_EQ(
      read({{"tokenizer_config.json", config}, {"chat_template.jinja", "c"}})
          .value(),
      "c");
  EXPECT_EQ(read({{"tokenizer_config.json",
                   R"({"chat_template": [
                      {"name": "tool_use", "template": "t"},
                      {"name": "default", "template": "d"}]})"}})
                .value(),
            "d");
  for (const char* bad :
       {R"({"chat_template": 5})",
        R"({"chat_template": [{"name": "tool_use", "template": "t"}]})",
        R"({"chat_template": ["x"]})"}) {
    EXPECT_THAT(read({{"tokenizer_config.json", bad}}),
                StatusIs(kInvalid, HasSubstr("chat_template is")))
        << bad;
  }
}

}  // namespace
}  // namespace sinklora
