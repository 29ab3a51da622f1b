// SPDX-License-Identifier: Apache-2.0
#include "services/inference/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/services/inference/core_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class PrepareTest : public CoreTest {
 protected:
  absl::StatusOr<GenerationRequest> Prepare(GenerationParams params) {
    return PrepareGeneration(Target(), std::move(params));
  }
  // The message of the refusal, or "accepted".
  std::string Refusal(GenerationParams params) {
    const auto request = Prepare(std::move(params));
    if (request.ok()) return "accepted";
    EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(request.status().message());
  }
};

TEST_F(PrepareTest, FillsInDefaults) {
  GenerationParams params;
  params.prompt = "Once upon a time";
  ASSERT_OK_AND_ASSIGN(const GenerationRequest request, Prepare(params));
  EXPECT_EQ(request.max_tokens, kDefaultMaxTokens);
  EXPECT_EQ(request.prompt.front(), 0);  // the begin token
  EXPECT_EQ(request.end_ids, std::vector<int32_t>{1});
  EXPECT_EQ(request.cache.policy, CachePolicyKind::kFull);
  EXPECT_EQ(request.cache.budget_tokens, kTinyContextTokens);
}

TEST_F(PrepareTest, RefusesPromptsThatAreMissingEmptyOrOutOfVocabulary) {
  GenerationParams params;
  EXPECT_THAT(Refusal(params), HasSubstr("prompt is missing"));
  params.prompt = "";
  EXPECT_THAT(Refusal(params), HasSubstr("text is empty"));
  params.prompt = "\xff";
  EXPECT_THAT(Refusal(params), Not(HasSubstr("accepted")));
  params.prompt = std::vector<int32_t>{};
  EXPECT_THAT(Refusal(params), HasSubstr("token_ids is empty"));
  params.prompt = std::vector<int32_t>{5, 320};
  EXPECT_THAT(Refusal(params), AllOf(HasSubstr("320"), HasSubstr("index 1")));
  params.prompt = std::vector<int32_t>{-1};
  EXPECT_THAT(Refusal(params), HasSubstr("-1"));
}

TEST_F(PrepareTest, APromptThatDoesNotFitIsRefusedWithTheNumbers) {
  EXPECT_OK(Prepare(Params(56, 200)));
  EXPECT_THAT(Refusal(Params(57, 200)),
              AllOf(HasSubstr("200"), HasSubstr("57"), HasSubstr("256")));
  EXPECT_THAT(Refusal(Params(0)), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(Refusal(Params(1, 256)), HasSubstr("257"));
}

TEST_F(PrepareTest, StopStringsAreChecked) {
  GenerationParams params = Params();
  params.stop.assign(16, "x");
  EXPECT_OK(Prepare(params));
  params.stop.assign(17, "x");
  EXPECT_THAT(Refusal(params), AllOf(HasSubstr("17"), HasSubstr("16")));
  params.stop = {"x", ""};
  EXPECT_THAT(Refusal(params), HasSubstr("stop[1]"));
  params.stop = {"\xff"};
  EXPECT_THAT(Refusal(params), HasSubstr("UTF-8"));
  params.stop = {std::string(kMaxStopBytes + 1, 'x')};
  EXPECT_THAT(Refusal(params), HasSubstr("1025"));
}

TEST_F(PrepareTest, CacheAndSamplingAreChecked) {
  GenerationParams params = Params();
  params.cache.policy = CachePolicyKind::kH2o;
  EXPECT_THAT(Refusal(params), HasSubstr("budget"));
  params.cache.budget_tokens = 0;
  EXPECT_THAT(Refusal(params), HasSubstr("budget"));
  params.cache.budget_tokens = 8;
  params.cache.recent_tokens = 8;
  EXPECT_THAT(Refusal(params), HasSubstr("recent"));
  params.cache.recent_tokens = 4;
  EXPECT_OK(Prepare(params));
  params.sampling.temperature = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(Refusal(params), HasSubstr("temperature"));
}

TEST_F(PrepareTest, ChatsEndWithTheUserAndBringTheirStopStrings) {
  GenerationParams params;
  params.max_tokens = 8;
  params.prompt = ChatPromptParams{{{"user", "Hello"}}, "alpaca"};
  ASSERT_OK_AND_ASSIGN(const GenerationRequest request, Prepare(params));
  EXPECT_EQ(request.stop.size() + request.end_ids.size(),
            StopStrings(NamedChatFormat(ChatTemplate::kAlpaca)).size() + 1);
  params.prompt =
      ChatPromptParams{{{"user", "Hello"}, {"assistant", "Hi"}}, "alpaca"};
  EXPECT_THAT(Refusal(params), HasSubstr("user"));
  params.prompt = ChatPromptParams{{}, ""};
  EXPECT_THAT(Refusal(params), HasSubstr("chat.messages"));
  params.prompt = ChatPromptParams{{{"user", "Hello"}}, "no-such"};
  EXPECT_THAT(Refusal(params), HasSubstr("no-such"));
  params.prompt = ChatPromptParams{{{"user", "Hello"}}, "auto"};
  EXPECT_THAT(Refusal(params), HasSubstr("comes with no chat template"));
}

TEST_F(PrepareTest, AutoIsTheTemplateThatTheModelComesWith) {
  const auto with_format =
      [&](absl::StatusOr<std::optional<ChatFormat>> format) {
        auto base = std::make_shared<LoadedBase>(*Target()->base);
        base->chat_format = std::move(format);
        auto target = std::make_shared<ServedTarget>();
        target->base = std::move(base);
        target->model = Target()->model;
        GenerationParams params;
        params.max_tokens = 8;
        params.prompt = ChatPromptParams{{{"user", "Hello"}}, "auto"};
        return PrepareGeneration(std::move(target), std::move(params));
      };
  ChatFormat own = NamedChatFormat(ChatTemplate::kChatMl);
  own.default_system = "Be kind.";
  ASSERT_OK_AND_ASSIGN(const GenerationRequest request, with_format(own));
  ASSERT_OK_AND_ASSIGN(
      const EncodedChat chat,
      EncodeChat(Target()->tokenizer(), own, {{"user", "Hello"}}));
  EXPECT_EQ(request.prompt, chat.token_ids);
  EXPECT_THAT(with_format(absl::InvalidArgumentError("unknown template")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("unknown template")));
}

TEST_F(PrepareTest, TextSurvivesEncodingAndDecoding) {
  const Tokenizer& tokenizer = Target()->tokenizer();
  const std::string text = "A caf\u00e9 at noon";
  ASSERT_OK_AND_ASSIGN(const auto ids, EncodeText(tokenizer, text, true));
  EXPECT_EQ(ids.front(), 0);
  ASSERT_OK_AND_ASSIGN(const std::string decoded, DecodeIds(tokenizer, ids));
  EXPECT_EQ(decoded, text);
}

}  // namespace
}  // namespace sinklora::inference
