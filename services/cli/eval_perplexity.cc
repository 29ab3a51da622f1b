// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/generation_flags.h"
#include "services/cli/perplexity_windows.h"
#include "services/cli/progress.h"
#include "services/cli/token_documents.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

struct PerplexityFlags {
  TargetFlags target;
  std::string path;
  int64_t context_tokens = 0;
  int64_t stride_tokens = 0;
  std::string protocol = "strided";
  TokenLimits limits;
};

// Token ids and the windows over them.
struct Sequence {
  std::vector<int32_t> ids;
  std::vector<ScoreWindow> windows;
};

struct Result {
  int64_t context_tokens = 0;
  int64_t stride_tokens = 0;
  int64_t windows = 0;
  int64_t scored_tokens = 0;
  double scored_bytes = 0;
  double nll_sum = 0;
  double seconds = 0;

  double nats() const { return nll_sum / static_cast<double>(scored_tokens); }
  double bits_per_byte() const {
    return nll_sum / std::log(2.0) / scored_bytes;
  }
};

constexpr int64_t kLongLoraStrideTokens = 256;

bool IsStrided(const PerplexityFlags& flags) {
  return flags.protocol == "strided";
}

absl::Status ResolveLengths(const PerplexityFlags& flags,
                            const TokenDocuments& text, Result* result) {
  result->context_tokens =
      flags.context_tokens > 0 ? flags.context_tokens : text.context_tokens;
  if (result->context_tokens < 2 ||
      result->context_tokens > text.context_tokens) {
    return UsageError(fmt::format(
        "--context {}: must be in [2, {}], the context of the target",
        result->context_tokens, text.context_tokens));
  }
  const int64_t otherwise =
      IsStrided(flags) ? result->context_tokens / 2 : kLongLoraStrideTokens;
  result->stride_tokens =
      flags.stride_tokens > 0 ? flags.stride_tokens : otherwise;
  if (IsStrided(flags) && result->stride_tokens >= result->context_tokens) {
    return UsageError(
        fmt::format("--stride {}: must be below the context of {} tokens",
                    result->stride_tokens, result->context_tokens));
  }
  return absl::OkStatus();
}

// One sequence a document, or all text as one.
std::vector<Sequence> Plan(const PerplexityFlags& flags,
                           const TokenDocuments& text, Result* result) {
  std::vector<Sequence> plan;
  if (IsStrided(flags)) {
    for (const TokenDocument& document : text.documents) {
      plan.push_back(
          {document.ids,
           StridedWindows(static_cast<int64_t>(document.ids.size()),
                          result->context_tokens, result->stride_tokens)});
      result->scored_bytes +=
          static_cast<double>(document.text_bytes - document.first_bytes);
    }
  } else {
    Sequence all;
    for (const TokenDocument& document : text.documents) {
      all.ids.insert(all.ids.end(), document.ids.begin(), document.ids.end());
    }
    all.windows =
        LongLoraWindows(static_cast<int64_t>(all.ids.size()),
                        result->context_tokens, result->stride_tokens);
    plan.push_back(std::move(all));
  }
  for (const Sequence& sequence : plan) {
    result->windows += static_cast<int64_t>(sequence.windows.size());
    for (const ScoreWindow& window : sequence.windows) {
      result->scored_tokens += window.targets();
    }
  }
  if (!IsStrided(flags)) {
    // Targets repeat, so their bytes are only known on average.
    result->scored_bytes = static_cast<double>(result->scored_tokens) *
                           static_cast<double>(text.text_bytes()) /
                           static_cast<double>(text.token_count());
  }
  return plan;
}

absl::Status ScoreAll(InferenceClient* client, const v1::Target& target,
                      const std::vector<Sequence>& plan, Progress* progress,
                      Result* result) {
  for (const Sequence& sequence : plan) {
    for (const ScoreWindow& window : sequence.windows) {
      const auto ids =
          std::span(sequence.ids)
              .subspan(static_cast<size_t>(window.begin),
                       static_cast<size_t>(window.end - window.begin));
      v1::ScoreRequest request;
      *request.mutable_target() = target;
      request.mutable_token_ids()->mutable_ids()->Assign(ids.begin(),
                                                         ids.end());
      request.set_score_from(window.score_from);
      SL_ASSIGN_OR_RETURN(const v1::ScoreResponse response,
                          client->Score(request));
      if (response.scored_tokens() != window.targets()) {
        return absl::InternalError(
            fmt::format("the server scored {} tokens of {}",
                        response.scored_tokens(), window.targets()));
      }
      result->nll_sum += response.nll_sum();
      progress->Add(window.targets());
    }
  }
  result->seconds = progress->elapsed_seconds();
  return absl::OkStatus();
}

void Print(Session* session, const PerplexityFlags& flags,
           const TokenDocuments& text, const Result& result) {
  if (session->output().json()) {
    session->output().PrintJson({{"protocol", flags.protocol},
                                 {"model", flags.target.model},
                                 {"adapter", flags.target.adapter},
                                 {"serve_context_tokens", text.context_tokens},
                                 {"context_tokens", result.context_tokens},
                                 {"stride_tokens", result.stride_tokens},
                                 {"documents", text.documents.size()},
                                 {"input_tokens", text.token_count()},
                                 {"text_sha256", text.text_sha256},
                                 {"windows", result.windows},
                                 {"scored_tokens", result.scored_tokens},
                                 {"nll_sum", result.nll_sum},
                                 {"nats_per_token", result.nats()},
                                 {"perplexity", std::exp(result.nats())},
                                 {"bits_per_byte", result.bits_per_byte()},
                                 {"seconds", result.seconds}});
    return;
  }
  session->output().PrintFields(
      {{"protocol", fmt::format("{}, context {}, stride {}", flags.protocol,
                                FormatCount(result.context_tokens),
                                FormatCount(result.stride_tokens))},
       {"text",
        fmt::format("{} documents, {} tokens, {}", text.documents.size(),
                    FormatCount(text.token_count()),
                    FormatBytes(text.text_bytes()))},
       {"scored tokens", FormatCount(result.scored_tokens)},
       {"nats/token", fmt::format("{:.4f}", result.nats())},
       {"perplexity", fmt::format("{:.4f}", std::exp(result.nats()))},
       {"bits/byte", fmt::format("{:.4f}", result.bits_per_byte())},
       {"time", FormatSeconds(result.seconds)}});
}

absl::Status RunPerplexity(Session* session, const PerplexityFlags& flags) {
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session->Inference());
  const v1::Target target = TargetOf(flags.target);
  SL_ASSIGN_OR_RETURN(
      const TokenDocuments text,
      ReadTokenDocuments(session, client, target, flags.path, flags.limits));
  Result result;
  SL_RETURN_IF_ERROR(ResolveLengths(flags, text, &result));
  const std::vector<Sequence> plan = Plan(flags, text, &result);
  if (result.scored_tokens == 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: its {} tokens make no window of {} tokens at stride {}",
        flags.path, text.token_count(), result.context_tokens,
        result.stride_tokens));
  }
  {
    Progress progress(&session->output(), session->clock(), "scoring",
                      Progress::Unit::kCount, "tokens", result.scored_tokens);
    SL_RETURN_IF_ERROR(ScoreAll(client, target, plan, &progress, &result));
  }
  Print(session, flags, text, result);
  return absl::OkStatus();
}

}  // namespace

void AddEvalPerplexityCommand(CLI::App* eval, Session* session) {
  const auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* command = AddCommand(
      eval, session, "perplexity", "Perplexity of a text, document by document",
      "sinklora eval perplexity --model sample --adapter books-sf --text "
      "./held-out --context 2048 --stride 512",
      [session, flags] { return RunPerplexity(session, *flags); });
  AddTargetFlags(command, &flags->target, "--serve-context");
  command
      ->add_option("--text", flags->path,
                   "A text file, or a folder of them; each is a document")
      ->required();
  command->add_option("--context", flags->context_tokens,
                      "Tokens of a window; default: the target's context");
  command->add_option("--stride", flags->stride_tokens,
                      "Tokens between windows; default: half of the context, "
                      "windowed: 256");
  command
      ->add_option("--protocol", flags->protocol,
                   "strided: each token once, with at least context - stride "
                   "tokens before it; windowed: LongLoRA's eval.py")
      ->check(CLI::IsMember({"strided", "windowed"}))
      ->capture_default_str();
  command
      ->add_option("--max-document-tokens", flags->limits.document_tokens,
                   "Use only the first tokens of each document; default: all")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--max-tokens", flags->limits.total_tokens,
                   "Use only the first tokens of the text; default: all")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace sinklora::cli
