// The command line: parses it, runs the command, turns the outcome into an exit
// code.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_APP_H_
#define SINKLORA_SERVICES_CLI_APP_H_

#include <string>
#include <vector>

#include "services/cli/session.h"

namespace sinklora::cli {

// `arguments` without the program's name. Prints results, help and errors
// through the session's output; never exits the process, except that `up`
// replaces it. Returns the exit code (exit_code.h).
int RunApp(const std::vector<std::string>& arguments, Session* session);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_APP_H_
