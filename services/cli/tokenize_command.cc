// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/format.h"
#include "services/cli/generation_flags.h"
#include "services/cli/text_input.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

struct TokenizeFlags {
  TargetFlags target;
  TextFlags text;
  int64_t max_tokens = 0;
};

// The first `max_tokens` of `response` and the text they stand for.
absl::StatusOr<v1::TokenizeResponse> Truncate(InferenceClient* client,
                                              const v1::Target& target,
                                              v1::TokenizeResponse response,
                                              int64_t max_tokens) {
  if (max_tokens <= 0 || response.token_ids_size() <= max_tokens) {
    return response;
  }
  v1::TokenizeRequest request;
  *request.mutable_target() = target;
  response.mutable_token_ids()->Truncate(static_cast<int>(max_tokens));
  *request.mutable_token_ids()->mutable_ids() = response.token_ids();
  return client->Tokenize(request);
}

absl::Status RunTokenize(Session* session, const TokenizeFlags& flags) {
  SL_ASSIGN_OR_RETURN(const std::string text,
                      ReadText(session, flags.text, "--text", "--text-file"));
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session->Inference());
  v1::TokenizeRequest request;
  *request.mutable_target() = TargetOf(flags.target);
  request.set_text(text);
  SL_ASSIGN_OR_RETURN(v1::TokenizeResponse all, client->Tokenize(request));
  SL_ASSIGN_OR_RETURN(
      const v1::TokenizeResponse response,
      Truncate(client, request.target(), std::move(all), flags.max_tokens));
  if (session->output().json()) {
    session->output().PrintJson(ToJson(response));
    return absl::OkStatus();
  }
  std::string line;
  for (const int32_t id : response.token_ids()) {
    line += fmt::format("{}{}", line.empty() ? "" : " ", id);
  }
  session->output().Print(line + "\n");
  session->output().Note(
      fmt::format("[{} tokens]", FormatCount(response.token_ids_size())));
  return absl::OkStatus();
}

}  // namespace

void AddTokenizeCommand(CLI::App* root, Session* session) {
  const auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command =
      AddCommand(root, session, "tokenize", "Token ids of a text",
                 "sinklora tokenize --model sample --text 'In the beginning'",
                 [session, flags] { return RunTokenize(session, *flags); });
  AddTargetFlags(command, &flags->target, "--context");
  CLI::Option* text =
      command->add_option("--text", flags->text.text, "Text to tokenize");
  command
      ->add_option("--text-file", flags->text.file,
                   "File with the text, - for stdin; default: stdin")
      ->excludes(text);
  command->add_option("--max-tokens", flags->max_tokens,
                      "Only the first tokens; --json also gives their text");
}

}  // namespace sinklora::cli
