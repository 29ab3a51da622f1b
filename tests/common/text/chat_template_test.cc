// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::unique_ptr<Tokenizer> Load(std::vector<std::string> special_tokens) {
  return testing::LoadTokenizer(
             {{"tokenizer.json", testing::SmallTokenizerJson(special_tokens)},
              {"tokenizer_config.json",
               R"({"bos_token": "<|begin|>", "eos_token": "<|end|>"})"}})
      .value();
}

// The chat as text: special tokens in braces, supervised text in brackets.
std::string Render(const Tokenizer& tokenizer, const EncodedChat& chat,
                   const std::vector<std::string>& special_tokens) {
  std::string out;
  bool open = false;
  for (size_t i = 0; i < chat.token_ids.size(); ++i) {
    const bool supervised = chat.supervised[i] != 0;
    if (supervised != open) out += supervised ? "[" : "]";
    open = supervised;
    const auto id = static_cast<size_t>(chat.token_ids[i]);
    out += id < special_tokens.size() ? "{" + special_tokens[id] + "}"
                                      : tokenizer.TokenBytes(chat.token_ids[i]);
  }
  return open ? out + "]" : out;
}

std::string RenderChat(ChatTemplate chat_template,
                       const std::vector<ChatTurn>& turns,
                       std::vector<std::string> special_tokens = {"<|begin|>",
                                                                  "<|end|>"}) {
  const auto tokenizer = Load(special_tokens);
  const auto chat =
      EncodeChat(*tokenizer, NamedChatFormat(chat_template), turns);
  EXPECT_OK(chat);
  EXPECT_EQ(chat->token_ids.size(), chat->supervised.size());
  return Render(*tokenizer, *chat, special_tokens);
}

const std::vector<ChatTurn> kTurns = {{"system", "be kind"},
                                      {"user", "the cat?"},
                                      {"assistant", "sat"},
                                      {"user", "more"}};

TEST(ChatTemplateTest, Llama2) {
  EXPECT_EQ(RenderChat(ChatTemplate::kLlama2, kTurns),
            "{<|begin|>}[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nthe cat? [/INST]"
            "[ sat {<|end|>}]{<|begin|>}[INST] more [/INST]");
}

TEST(ChatTemplateTest, ChatMlWithAndWithoutItsTokens) {
  EXPECT_EQ(RenderChat(ChatTemplate::kChatMl, kTurns,
                       {"<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"}),
            "{<|im_start|>}system\nbe kind{<|im_end|>}\n"
            "{<|im_start|>}user\nthe cat?{<|im_end|>}\n"
            "{<|im_start|>}assistant\n[sat{<|im_end|>}]\n"
            "{<|im_start|>}user\nmore{<|im_end|>}\n{<|im_start|>}assistant\n");
  EXPECT_EQ(
      RenderChat(ChatTemplate::kChatMl, {{"user", "a"}, {"assistant", "b"}}),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
      "[b<|im_end|>{<|end|>}]\n");
}

TEST(ChatTemplateTest, Alpaca) {
  EXPECT_EQ(RenderChat(ChatTemplate::kAlpaca,
                       {{"user", "the cat?"}, {"assistant", "sat"}}),
            "{<|begin|>}Below is an instruction that describes a task. Write a "
            "response that appropriately completes the request.\n\n"
            "### Instruction:\nthe cat?\n\n### Response:\n[sat{<|end|>}]\n\n");
}

TEST(ChatTemplateTest, Llama3) {
  EXPECT_EQ(
      RenderChat(ChatTemplate::kLlama3,
                 {{"system", " be kind\n"}, {"user", "a"}, {"assistant", "b"}},
                 {"<|begin|>", "<|end|>", "<|start_header_id|>",
                  "<|end_header_id|>", "<|eot_id|>"}),
      "{<|begin|>}{<|start_header_id|>}system{<|end_header_id|>}\n\nbe kind"
      "{<|eot_id|>}{<|start_header_id|>}user{<|end_header_id|>}\n\na"
      "{<|eot_id|>}{<|start_header_id|>}assistant{<|end_header_id|>}\n\n"
      "[b{<|eot_id|>}]");
}

TEST(ChatTemplateTest, Mistral) {
  EXPECT_EQ(RenderChat(ChatTemplate::kMistral, kTurns),
            "{<|begin|>}[INST] be kind\n\nthe cat? [/INST][ sat{<|end|>}]"
            "[INST] more [/INST]");
}

TEST(ChatTemplateTest, Zephyr) {
  EXPECT_EQ(RenderChat(ChatTemplate::kZephyr, kTurns),
            "<|system|>\nbe kind{<|end|>}\n<|user|>\nthe cat?{<|end|>}\n"
            "<|assistant|>\n[sat{<|end|>}]\n<|user|>\nmore{<|end|>}\n"
            "<|assistant|>\n");
}

TEST(ChatTemplateTest, Vicuna) {
  EXPECT_EQ(RenderChat(ChatTemplate::kVicuna,
                       {{"user", "the cat?"}, {"assistant", "sat"}}),
            "{<|begin|>}A chat between a curious user and an artificial "
            "intelligence assistant. The assistant gives helpful, detailed, "
            "and polite answers to the user's questions. USER: the cat? "
            "ASSISTANT:[ sat{<|end|>}]");
}

// The ids of a prompt are the beginning of the ids of prompt and answer.
TEST(ChatTemplateTest, AnswersNeverChangeTheirPrompt) {
  const auto tokenizer = Load({"<|begin|>", "<|end|>"});
  for (const char* name : {"llama-2", "llama-3", "chatml", "mistral", "zephyr",
                           "alpaca", "vicuna"}) {
    const ChatFormat& t = NamedChatFormat(ParseChatTemplate(name).value());
    const auto prompt = EncodeChat(*tokenizer, t, {{"user", "the"}}).value();
    for (const char* answer : {" cat", "\n\n", "]", "the", ""}) {
      const auto chat =
          EncodeChat(*tokenizer, t, {{"user", "the"}, {"assistant", answer}})
              .value();
      ASSERT_GT(chat.token_ids.size(), prompt.token_ids.size());
      EXPECT_TRUE(std::equal(prompt.token_ids.begin(), prompt.token_ids.end(),
                             chat.token_ids.begin()));
      EXPECT_EQ(chat.supervised[prompt.token_ids.size()], 1);
    }
  }
}

TEST(ChatTemplateTest, ContentCannotForgeSpecialTokens) {
  const auto tokenizer = Load({"<|begin|>", "<|end|>", "<|im_end|>"});
  const auto chat =
      EncodeChat(*tokenizer, NamedChatFormat(ChatTemplate::kChatMl),
                 {{"user", "<|im_end|><|end|><|begin|>"}})
          .value();
  EXPECT_EQ(std::count(chat.token_ids.begin(), chat.token_ids.end(), 1), 0);
  EXPECT_EQ(std::count(chat.token_ids.begin(), chat.token_ids.end(), 2), 1);
  EXPECT_EQ(std::count(chat.token_ids.begin(), chat.token_ids.end(), 0), 0);
}

TEST(ChatTemplateTest, BadChatsAndNames) {
  const auto tokenizer = Load({"<|begin|>", "<|end|>"});
  const auto encode = [&](const std::vector<ChatTurn>& turns) {
    return EncodeChat(*tokenizer, NamedChatFormat(ChatTemplate::kLlama2),
                      turns);
  };
  EXPECT_THAT(encode({}), StatusIs(kInvalid));
  EXPECT_THAT(encode({{"system", "x"}}), StatusIs(kInvalid));
  EXPECT_THAT(encode({{"assistant", "x"}}),
              StatusIs(kInvalid, HasSubstr("turn 0 of the chat has role "
                                           "'assistant', expected 'user'")));
  EXPECT_THAT(encode({{"user", "x"}, {"user", "y"}}),
              StatusIs(kInvalid, HasSubstr("turn 1")));
  EXPECT_THAT(encode({{"user", "x"}, {"system", "y"}}), StatusIs(kInvalid));
  EXPECT_THAT(encode({{"user", "ab\xFF"}}),
              StatusIs(kInvalid, HasSubstr("turn 0 of the chat is not valid "
                                           "UTF-8 at offset 2")));
  ChatFormat format = NamedChatFormat(ChatTemplate::kMistral);
  format.system = ChatFormat::System::kRefused;
  EXPECT_THAT(EncodeChat(*tokenizer, format, {{"system", "x"}, {"user", "y"}}),
              StatusIs(kInvalid, HasSubstr("mistral template has no system")));

  EXPECT_EQ(ParseChatTemplate("").value(), ChatTemplate::kLlama2);
  for (const char* name : {"llama-2", "llama-3", "chatml", "mistral", "zephyr",
                           "alpaca", "vicuna"}) {
    EXPECT_EQ(ChatTemplateName(ParseChatTemplate(name).value()), name);
  }
  EXPECT_THAT(ParseChatTemplate("phi-3"),
              StatusIs(kInvalid, HasSubstr("llama-2, llama-3, chatml, mistral, "
                                           "zephyr, alpaca, vicuna")));
}

}  // namespace
}  // namespace sinklora
