// SPDX-License-Identifier: Apache-2.0
#include "services/cli/command.h"

#include <utility>

namespace sinklora::cli {

CLI::App* AddGroup(CLI::App* parent, const std::string& name,
                   const std::string& help) {
  CLI::App* group = parent->add_subcommand(name, help);
  group->require_subcommand(1);
  group->fallthrough();
  return group;
}

CLI::App* AddCommand(CLI::App* parent, Session* session,
                     const std::string& name, const std::string& help,
                     const std::string& example,
                     std::function<absl::Status()> run) {
  CLI::App* command = parent->add_subcommand(name, help);
  command->fallthrough();
  command->footer("\nExample:\n  " + example);
  command->callback(
      [session, run = std::move(run)] { session->command = run; });
  return command;
}

}  // namespace sinklora::cli
