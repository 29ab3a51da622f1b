// SPDX-License-Identifier: Apache-2.0
#include "services/cli/generation_printer.h"

#include <fmt/format.h>

#include "services/cli/format.h"
#include "services/cli/generation_flags.h"

namespace sinklora::cli {

namespace v1 = inference::v1;

void GenerationPrinter::OnEvent(const v1::GenerateResponse& event) {
  if (event.has_started()) started_ = event.started();
  if (event.has_finished()) finished_ = event.finished();
  if (!event.has_delta()) return;
  text_ += event.delta().text();
  for (const int32_t id : event.delta().token_ids()) token_ids_.push_back(id);
  if (!session_->output().json())
    session_->output().Print(event.delta().text());
}

void GenerationPrinter::Finish() {
  if (session_->output().json()) {
    session_->output().PrintJson({{"text", text_},
                                  {"token_ids", token_ids_},
                                  {"started", ToJson(started_)},
                                  {"finished", ToJson(finished_)}});
    return;
  }
  if (text_.empty() || text_.back() != '\n') session_->output().Print("\n");
  session_->output().Note(UsageLine(started_, finished_));
}

std::string UsageLine(const v1::GenerateStarted& started,
                      const v1::GenerateFinished& finished) {
  const v1::Usage& usage = finished.usage();
  // The first new token comes out of the prefill, so decoding made one less.
  const int64_t decoded = usage.generated_tokens() - 1;
  const std::string speed =
      decoded > 0 && usage.decode_seconds() > 0
          ? fmt::format("{:.1f} tok/s",
                        static_cast<double>(decoded) / usage.decode_seconds())
          : "- tok/s";
  return fmt::format(
      "[{} prompt tokens, {} new ({}); first token after {}, then {}; cache "
      "{}: "
      "{} of {} tokens, {} resident, {} at the peak, {} evicted]",
      FormatCount(usage.prompt_tokens()), FormatCount(usage.generated_tokens()),
      FinishReasonName(finished.finish_reason()),
      FormatSeconds(usage.time_to_first_token_seconds()), speed,
      CachePolicyName(started.cache().policy()),
      FormatCount(usage.resident_tokens()),
      FormatCount(started.cache().budget_tokens()),
      FormatBytes(usage.resident_bytes()),
      FormatBytes(usage.peak_resident_bytes()),
      FormatCount(usage.evicted_tokens()));
}

}  // namespace sinklora::cli
