// SPDX-License-Identifier: Apache-2.0
#include "services/cli/app.h"

#include <algorithm>
#include <sstream>

#include "services/cli/command.h"
#include "services/cli/exit_code.h"

namespace sinklora::cli {
namespace {

constexpr char kFooter[] = R"(
Exit codes:
  0 done   1 wrong command line   2 request refused   3 not found
  4 no server, deadline or capacity: try again   5 watched job failed or
  cancelled   6 internal error   130 interrupted

Example:
  sinklora up --data-dir ~/sinklora
  sinklora --data-dir ~/sinklora dataset list)";

struct GlobalFlags {
  bool json = false;
  bool no_color = false;
};

void AddGlobalFlags(CLI::App* app, GlobalFlags* flags, Session* session) {
  EndpointFlags* endpoints = &session->endpoint_flags;
  app->add_option("--server", endpoints->server,
                  "HOST:PORT of the services; default: what --data-dir says, "
                  "else $SINKLORA_SERVER, else 127.0.0.1:7070");
  app->add_option("--data-dir", endpoints->data_dir,
                  "Data directory of a running `sinklora up`");
  app->add_option("--curator", endpoints->curator,
                  "HOST:PORT of the curator, when it is a process of its own");
  app->add_option("--trainer", endpoints->trainer,
                  "HOST:PORT of the trainer and its registry");
  app->add_option("--registry", endpoints->registry,
                  "HOST:PORT of the registry, when not the trainer's");
  app->add_option("--inference", endpoints->inference,
                  "HOST:PORT of the inference service");
  app->add_option("--request-id", session->request_id_flag,
                  "Idempotency key: repeating a command with the same one "
                  "does its work once; default: a new one each time");
  app->add_flag("--json", flags->json,
                "Print JSON (one document; one a line for watched jobs)");
  app->add_flag("--no-color", flags->no_color, "Never print colours");
}

// CLI11 throws its parse errors, and help as one of them.
int ReportParse(const CLI::App& app, const CLI::ParseError& error,
                Session* session) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = app.exit(error, out, err);
  if (code == 0) {
    session->output().Print(out.str());
    return kExitOk;
  }
  session->output().PrintError(UsageError(error.what()));
  session->output().Note("Run with --help for usage.");
  return kExitUsage;
}

int RunCommand(Session* session) {
  const absl::Status status = session->command();
  if (status.ok()) return kExitOk;
  if (session->interrupt()->interrupted()) {
    session->output().Note("interrupted");
    return kExitInterrupted;
  }
  session->output().PrintError(status);
  if (status.code() == absl::StatusCode::kUnavailable) {
    session->output().Note(
        "Is the server up? `sinklora up --data-dir DIR` starts one; --server "
        "or --data-dir says where it is.");
  }
  return ExitCodeOf(status);
}

}  // namespace

int RunApp(const std::vector<std::string>& arguments, Session* session) {
  CLI::App app("SinkLoRA: long-context fine-tuning and serving.", "sinklora");
  GlobalFlags flags;
  app.require_subcommand(1);
  app.footer(kFooter);
  AddGlobalFlags(&app, &flags, session);
  AddUpCommand(&app, session);
  AddDatasetCommands(&app, session);
  AddModelCommands(&app, session);
  AddTrainCommands(&app, session);
  AddGenerateCommand(&app, session);
  AddChatCommand(&app, session);
  AddScoreCommand(&app, session);
  AddTokenizeCommand(&app, session);
  AddEvalCommands(&app, session);
  AddVersionCommand(&app, session);
  // An error in the command line is to be printed in the form that was asked
  // for.
  session->output().set_json(std::find(arguments.begin(), arguments.end(),
                                       "--json") != arguments.end());
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return ReportParse(app, error, session);
  }
  session->output().set_json(flags.json);
  if (flags.no_color) session->output().set_no_color();
  return RunCommand(session);
}

}  // namespace sinklora::cli
