// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "common/base/status.h"
#include "services/cli/command.h"

namespace sinklora::cli {
namespace {

constexpr char kServerProgram[] = "sinklora-standalone";

// Replaces this process, so that signals and the exit code are the server's own
// and the command line stays light: it needs none of the libraries that
// training does.
absl::Status ReplaceBy(const std::string& program,
                       std::vector<std::string> arguments) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  const std::error_code error(errno, std::generic_category());
  return absl::NotFoundError(
      fmt::format("{}: cannot be started: {}", program, error.message()));
}

absl::Status RunUp(const Session& session,
                   const std::vector<std::string>& extras) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return absl::InternalError("/proc/self/exe: " + error.message());
  }
  const std::string program = (self.parent_path() / kServerProgram).string();
  std::vector<std::string> arguments = {program};
  if (!session.endpoint_flags.data_dir.empty()) {
    arguments.push_back("--data-dir=" + session.endpoint_flags.data_dir);
  }
  arguments.insert(arguments.end(), extras.begin(), extras.end());
  return ReplaceBy(program, std::move(arguments));
}

}  // namespace

void AddUpCommand(CLI::App* root, Session* session) {
  CLI::App* command = root->add_subcommand(
      "up", "Run all services in one process (`sinklora up --help`)");
  // Its flags are the server's: handed on as they are, --help included.
  command->set_help_flag();
  command->prefix_command();
  command->callback([session, command] {
    session->command = [session, command] {
      return RunUp(*session, command->remaining());
    };
  });
}

}  // namespace sinklora::cli
