// How commands are declared on the CLI11 parser. Each command group has one
// function that declares its commands; a command's flags are bound to an object
// that its run function owns.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_COMMAND_H_
#define SINKLORA_SERVICES_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "services/cli/session.h"

namespace sinklora::cli {

// A command that only holds other commands, e.g. "dataset".
CLI::App* AddGroup(CLI::App* parent, const std::string& name,
                   const std::string& help);

// A command. `example` is a full command line, shown by --help. `run` is called
// after parsing.
CLI::App* AddCommand(CLI::App* parent, Session* session,
                     const std::string& name, const std::string& help,
                     const std::string& example,
                     std::function<absl::Status()> run);

void AddUpCommand(CLI::App* root, Session* session);
void AddDatasetCommands(CLI::App* root, Session* session);
void AddModelCommands(CLI::App* root, Session* session);
void AddTrainCommands(CLI::App* root, Session* session);
void AddGenerateCommand(CLI::App* root, Session* session);
void AddChatCommand(CLI::App* root, Session* session);
void AddScoreCommand(CLI::App* root, Session* session);
void AddTokenizeCommand(CLI::App* root, Session* session);
void AddEvalCommands(CLI::App* root, Session* session);
void AddVersionCommand(CLI::App* root, Session* session);

// Parts of the groups above that have files of their own.
void AddModelExportCommand(CLI::App* model, Session* session);
void AddTrainSubmitCommand(CLI::App* train, Session* session);
void AddEvalPerplexityCommand(CLI::App* eval, Session* session);
void AddEvalPasskeyCommand(CLI::App* eval, Session* session);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_COMMAND_H_
