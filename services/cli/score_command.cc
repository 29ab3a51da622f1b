// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/format.h"
#include "services/cli/generation_flags.h"
#include "services/cli/text_input.h"

namespace sinklora::cli {
namespace {

struct ScoreFlags {
  TargetFlags target;
  TextFlags text;
  int64_t score_from = 1;
  bool per_token = false;
};

absl::Status RunScore(Session* session, const ScoreFlags& flags) {
  SL_ASSIGN_OR_RETURN(const std::string text,
                      ReadText(session, flags.text, "--text", "--text-file"));
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session->Inference());
  inference::v1::ScoreRequest request;
  *request.mutable_target() = TargetOf(flags.target);
  request.set_text(text);
  request.set_score_from(flags.score_from);
  request.set_per_token(flags.per_token);
  SL_ASSIGN_OR_RETURN(const inference::v1::ScoreResponse response,
                      client->Score(request));
  const double nats =
      response.scored_tokens() > 0
          ? response.nll_sum() / static_cast<double>(response.scored_tokens())
          : 0;
  if (session->output().json()) {
    Json document = ToJson(response);
    document["nats_per_token"] = nats;
    document["perplexity"] = std::exp(nats);
    session->output().PrintJson(document);
    return absl::OkStatus();
  }
  session->output().PrintFields(
      {{"scored tokens", FormatCount(response.scored_tokens())},
       {"nll", fmt::format("{:.4f} nats", response.nll_sum())},
       {"nats/token", fmt::format("{:.4f}", nats)},
       {"perplexity", fmt::format("{:.4f}", std::exp(nats))}});
  for (const float nll : response.nll()) {
    session->output().Print(fmt::format("{:.4f}\n", nll));
  }
  return absl::OkStatus();
}

}  // namespace

void AddScoreCommand(CLI::App* root, Session* session) {
  const auto flags = std::make_shared<ScoreFlags>();
  CLI::App* command =
      AddCommand(root, session, "score",
                 "Likelihood of a text that fits the context (full attention)",
                 "sinklora score --model sample --text 'In the beginning'",
                 [session, flags] { return RunScore(session, *flags); });
  AddTargetFlags(command, &flags->target, "--context");
  CLI::Option* text =
      command->add_option("--text", flags->text.text, "Text to score");
  command
      ->add_option("--text-file", flags->text.file,
                   "File with the text, - for stdin; default: stdin")
      ->excludes(text);
  command
      ->add_option("--score-from", flags->score_from,
                   "Index of the first token that counts, >= 1")
      ->capture_default_str();
  command->add_flag("--per-token", flags->per_token,
                    "Also print the value of each token");
}

}  // namespace sinklora::cli
