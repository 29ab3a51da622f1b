// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/generation_flags.h"
#include "services/cli/passkey_prompt.h"
#include "services/cli/progress.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

struct PasskeyFlags {
  TargetFlags target;
  CacheFlags cache;
  std::vector<int64_t> lengths_tokens;
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};
  int64_t trials = 5;
  uint64_t seed = 0;
};

struct Cell {
  int64_t length_tokens = 0;
  double depth = 0;
  int64_t correct = 0;
  int64_t prompt_tokens = 0;  // of the last trial
};

// Prompts differ by a few tokens with the key and with where the filler is cut;
// a prompt may be this much shorter.
constexpr int64_t kSlackTokens = 16;
constexpr int64_t kProbeChars = 4096;
constexpr int64_t kLongestKey = 49'999;

class Passkey {
 public:
  Passkey(Session* session, InferenceClient* client, const PasskeyFlags& flags)
      : session_(session),
        client_(client),
        flags_(flags),
        target_(TargetOf(flags.target)) {}

  absl::StatusOr<std::vector<Cell>> Run();

 private:
  absl::StatusOr<int64_t> CountTokens(const std::string& text);
  // Tokens that the answer takes after the question.
  absl::StatusOr<int64_t> AnswerTokens(int64_t key);
  // The most filler with which prompt and answer have at most `length` tokens.
  absl::StatusOr<int64_t> FillerChars(int64_t length);
  absl::Status RunTrial(int64_t key, int64_t filler_chars, Cell* cell);

  Session* const session_;
  InferenceClient* const client_;
  const PasskeyFlags& flags_;
  const v1::Target target_;
};

absl::StatusOr<int64_t> Passkey::CountTokens(const std::string& text) {
  v1::TokenizeRequest request;
  *request.mutable_target() = target_;
  request.set_text(text);
  request.set_add_bos(true);
  SL_ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                      client_->Tokenize(request));
  return response.token_ids_size();
}

absl::StatusOr<int64_t> Passkey::AnswerTokens(int64_t key) {
  SL_ASSIGN_OR_RETURN(const int64_t question, CountTokens(kPasskeyQuestion));
  SL_ASSIGN_OR_RETURN(const int64_t answered,
                      CountTokens(fmt::format("{} {}", kPasskeyQuestion, key)));
  return std::max<int64_t>(answered - question, 1);
}

absl::StatusOr<int64_t> Passkey::FillerChars(int64_t length) {
  SL_ASSIGN_OR_RETURN(const int64_t answer, AnswerTokens(kLongestKey));
  SL_ASSIGN_OR_RETURN(const int64_t bare,
                      CountTokens(PasskeyPrompt(kLongestKey, 0, 0.5)));
  SL_ASSIGN_OR_RETURN(const int64_t probe, CountTokens(PasskeyPrompt(
                                               kLongestKey, kProbeChars, 0.5)));
  const int64_t room = length - kSlackTokens - answer - bare;
  if (room < 0) {
    return UsageError(
        fmt::format("--lengths {}: the task alone takes {} tokens", length,
                    bare + answer + kSlackTokens));
  }
  const double chars_per_token =
      static_cast<double>(kProbeChars) /
      static_cast<double>(std::max<int64_t>(probe - bare, 1));
  auto chars =
      static_cast<int64_t>(static_cast<double>(room) * chars_per_token);
  // The filler repeats, so the estimate is close; what is over goes.
  while (chars > 0) {
    SL_ASSIGN_OR_RETURN(const int64_t tokens,
                        CountTokens(PasskeyPrompt(kLongestKey, chars, 0.5)));
    const int64_t over = tokens - (length - kSlackTokens - answer);
    if (over <= 0) break;
    chars -= std::max<int64_t>(
        static_cast<int64_t>(static_cast<double>(over) * chars_per_token), 1);
  }
  return std::max<int64_t>(chars, 0);
}

absl::Status Passkey::RunTrial(int64_t key, int64_t filler_chars, Cell* cell) {
  SL_ASSIGN_OR_RETURN(const int64_t answer, AnswerTokens(key));
  v1::GenerateRequest request;
  *request.mutable_target() = target_;
  *request.mutable_cache() = CacheOf(flags_.cache);
  request.set_text(PasskeyPrompt(key, filler_chars, cell->depth));
  request.set_max_tokens(static_cast<int32_t>(answer));
  std::string text;
  SL_RETURN_IF_ERROR(
      client_->Generate(request, [&](const v1::GenerateResponse& event) {
        if (event.has_delta()) text += event.delta().text();
        if (event.has_started()) {
          cell->prompt_tokens = event.started().prompt_tokens();
        }
      }));
  if (IsPasskey(text, key)) ++cell->correct;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Cell>> Passkey::Run() {
  std::vector<Cell> cells;
  const auto generations = static_cast<int64_t>(flags_.lengths_tokens.size() *
                                                flags_.depths.size()) *
                           flags_.trials;
  Progress progress(&session_->output(), session_->clock(), "asking",
                    Progress::Unit::kCount, "answers", generations);
  for (const int64_t length : flags_.lengths_tokens) {
    SL_ASSIGN_OR_RETURN(const int64_t filler_chars, FillerChars(length));
    for (const double depth : flags_.depths) {
      Cell cell{.length_tokens = length, .depth = depth};
      for (int64_t trial = 0; trial < flags_.trials; ++trial) {
        SL_RETURN_IF_ERROR(
            RunTrial(PasskeyOf(flags_.seed, trial), filler_chars, &cell));
        progress.Add(1);
      }
      cells.push_back(cell);
    }
  }
  return cells;
}

double Accuracy(const std::vector<Cell>& cells, int64_t trials) {
  int64_t correct = 0;
  for (const Cell& cell : cells) correct += cell.correct;
  return static_cast<double>(correct) /
         static_cast<double>(static_cast<int64_t>(cells.size()) * trials);
}

void PrintAsJson(Session* session, const PasskeyFlags& flags,
                 const std::vector<Cell>& cells) {
  Json list = Json::array();
  for (const Cell& cell : cells) {
    list.push_back({{"length_tokens", cell.length_tokens},
                    {"prompt_tokens", cell.prompt_tokens},
                    {"depth", cell.depth},
                    {"trials", flags.trials},
                    {"correct", cell.correct},
                    {"accuracy", Accuracy({cell}, flags.trials)}});
  }
  session->output().PrintJson({{"model", flags.target.model},
                               {"adapter", flags.target.adapter},
                               {"cache", flags.cache.policy},
                               {"seed", flags.seed},
                               {"accuracy", Accuracy(cells, flags.trials)},
                               {"cells", list}});
}

// One row a length, one column a depth.
void PrintAsTable(Session* session, const PasskeyFlags& flags,
                  const std::vector<Cell>& cells) {
  using Align = Table::Align;
  std::vector<Table::Column> columns = {{"LENGTH", Align::kRight},
                                        {"PROMPT", Align::kRight}};
  for (const double depth : flags.depths) {
    columns.push_back({fmt::format("DEPTH {:g}", depth), Align::kRight});
  }
  columns.push_back({"ALL", Align::kRight});
  Table table(columns);
  const size_t depths = flags.depths.size();
  for (size_t i = 0; i + depths <= cells.size(); i += depths) {
    const std::vector<Cell> row(
        cells.begin() + static_cast<ptrdiff_t>(i),
        cells.begin() + static_cast<ptrdiff_t>(i + depths));
    std::vector<std::string> text = {FormatCount(row.front().length_tokens),
                                     FormatCount(row.front().prompt_tokens)};
    for (const Cell& cell : row) {
      text.push_back(FormatShare(Accuracy({cell}, flags.trials)));
    }
    text.push_back(FormatShare(Accuracy(row, flags.trials)));
    table.AddRow(text);
  }
  session->output().PrintTable(table);
}

absl::Status RunPasskey(Session* session, const PasskeyFlags& flags) {
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session->Inference());
  Passkey passkey(session, client, flags);
  SL_ASSIGN_OR_RETURN(const std::vector<Cell> cells, passkey.Run());
  if (session->output().json()) {
    PrintAsJson(session, flags, cells);
  } else {
    PrintAsTable(session, flags, cells);
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvalPasskeyCommand(CLI::App* eval, Session* session) {
  const auto flags = std::make_shared<PasskeyFlags>();
  CLI::App* command = AddCommand(
      eval, session, "passkey",
      "Share of hidden numbers found, by length and depth (LongLoRA's task)",
      "sinklora eval passkey --model sample --adapter books-sf --lengths "
      "512,1024,2048 --trials 10",
      [session, flags] { return RunPasskey(session, *flags); });
  AddTargetFlags(command, &flags->target, "--serve-context");
  command
      ->add_option("--lengths", flags->lengths_tokens,
                   "Tokens of prompt and answer together")
      ->required()
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--depths", flags->depths,
                   "Where the number hides, 0 (start) to 1 (end)")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--trials", flags->trials, "Numbers per length and depth")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Seed of the numbers")
      ->capture_default_str();
  AddCacheFlags(command, &flags->cache);
}

}  // namespace sinklora::cli
