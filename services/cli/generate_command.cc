// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/generation_flags.h"
#include "services/cli/generation_printer.h"
#include "services/cli/text_input.h"

namespace sinklora::cli {
namespace {

struct GenerateFlags {
  TargetFlags target;
  CacheFlags cache;
  SamplingFlags sampling;
  TextFlags prompt;
};

absl::Status RunGenerate(Session* session, const GenerateFlags& flags) {
  SL_ASSIGN_OR_RETURN(
      const std::string prompt,
      ReadText(session, flags.prompt, "--prompt", "--prompt-file"));
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session->Inference());
  inference::v1::GenerateRequest request;
  *request.mutable_target() = TargetOf(flags.target);
  *request.mutable_cache() = CacheOf(flags.cache);
  FillSampling(flags.sampling, &request);
  request.set_text(prompt);
  GenerationPrinter printer(session);
  const absl::Status status = client->Generate(
      request, [&](const inference::v1::GenerateResponse& event) {
        printer.OnEvent(event);
      });
  if (!status.ok()) {
    // What arrived stays on its own line, apart from the error.
    if (!printer.text().empty() && !session->output().json()) {
      session->output().Print("\n");
    }
    return status;
  }
  printer.Finish();
  return absl::OkStatus();
}

}  // namespace

void AddGenerateCommand(CLI::App* root, Session* session) {
  const auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = AddCommand(
      root, session, "generate",
      "Continue a text; text on stdout, usage on stderr",
      "sinklora generate --model sample --adapter books-sf --prompt-file "
      "chapter.txt --cache h2o --cache-prompt-ratio 0.2",
      [session, flags] { return RunGenerate(session, *flags); });
  AddTargetFlags(command, &flags->target, "--context");
  CLI::Option* text =
      command->add_option("--prompt", flags->prompt.text, "Text to continue");
  command
      ->add_option("--prompt-file", flags->prompt.file,
                   "File with the text, - for stdin; default: stdin")
      ->excludes(text);
  AddSamplingFlags(command, &flags->sampling);
  AddCacheFlags(command, &flags->cache);
}

}  // namespace sinklora::cli
