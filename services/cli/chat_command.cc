// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <istream>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "services/cli/command.h"
#include "services/cli/generation_flags.h"
#include "services/cli/generation_printer.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

struct ChatFlags {
  TargetFlags target;
  CacheFlags cache;
  SamplingFlags sampling;
  std::string chat_template;
  std::string system_prompt;
};

constexpr char kHelp[] =
    "/reset starts over, /exit or Ctrl-D ends, Ctrl-C cuts an answer off.";

class Chat {
 public:
  Chat(Session* session, const ChatFlags& flags)
      : session_(session), flags_(flags) {
    Reset();
  }
  absl::Status Run();

 private:
  void Reset();
  void AddTurn(const std::string& role, const std::string& content);
  // Sends the turns so far. A failed or cut-off answer takes its question back.
  absl::Status Answer(const std::string& question);
  // False at the end of the input.
  bool ReadLine(std::string* line);

  Session* const session_;
  const ChatFlags& flags_;
  v1::ChatPrompt chat_;
};

void Chat::Reset() {
  chat_.Clear();
  chat_.set_chat_template(flags_.chat_template);
  if (!flags_.system_prompt.empty()) AddTurn("system", flags_.system_prompt);
}

void Chat::AddTurn(const std::string& role, const std::string& content) {
  v1::ChatMessage* message = chat_.add_messages();
  message->set_role(role);
  message->set_content(content);
}

absl::Status Chat::Answer(const std::string& question) {
  SL_ASSIGN_OR_RETURN(InferenceClient * client, session_->Inference());
  AddTurn("user", question);
  v1::GenerateRequest request;
  *request.mutable_target() = TargetOf(flags_.target);
  *request.mutable_cache() = CacheOf(flags_.cache);
  FillSampling(flags_.sampling, &request);
  *request.mutable_chat() = chat_;
  GenerationPrinter printer(session_);
  const absl::Status status = client->Generate(
      request,
      [&](const v1::GenerateResponse& event) { printer.OnEvent(event); });
  if (!status.ok()) {
    chat_.mutable_messages()->RemoveLast();
    return status;
  }
  printer.Finish();
  AddTurn("assistant", printer.text());
  return absl::OkStatus();
}

bool Chat::ReadLine(std::string* line) {
  if (session_->in_is_terminal()) session_->output().Print("> ");
  return static_cast<bool>(std::getline(session_->in(), *line));
}

absl::Status Chat::Run() {
  session_->output().Note(kHelp);
  std::string line;
  while (ReadLine(&line)) {
    if (line.empty()) continue;
    if (line == "/exit") break;
    if (line == "/reset") {
      Reset();
      continue;
    }
    const absl::Status status = Answer(line);
    if (session_->interrupt()->interrupted()) {
      session_->output().Note("\n[cut off]");
      session_->interrupt()->Clear();
    } else if (!status.ok()) {
      // A person can go on after an error, a script cannot know about it.
      if (!session_->in_is_terminal()) return status;
      session_->output().PrintError(status);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddChatCommand(CLI::App* root, Session* session) {
  const auto flags = std::make_shared<ChatFlags>();
  CLI::App* command =
      AddCommand(root, session, "chat", "Talk with a model, one line a turn",
                 "sinklora chat --model sample --adapter longqa-sf --cache h2o "
                 "--cache-context-ratio 0.25",
                 [session, flags] { return Chat(session, *flags).Run(); });
  AddTargetFlags(command, &flags->target, "--context");
  command->add_option("--chat-template", flags->chat_template,
                      "llama-2 (default), llama-3, chatml, mistral, zephyr, "
                      "alpaca, vicuna, or auto: the model's own");
  command->add_option("--system-prompt", flags->system_prompt,
                      "First message of the chat");
  AddSamplingFlags(command, &flags->sampling);
  AddCacheFlags(command, &flags->cache);
}

}  // namespace sinklora::cli
