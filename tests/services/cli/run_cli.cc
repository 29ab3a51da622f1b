// SPDX-License-Identifier: Apache-2.0
#include "tests/services/cli/run_cli.h"

#include <sstream>

#include "services/cli/app.h"
#include "services/cli/interrupt.h"
#include "services/cli/output.h"
#include "services/cli/session.h"

namespace sinklora::testing {

CliRun RunCli(const std::string& server,
              const std::vector<std::string>& arguments,
              const std::string& stdin_text) {
  std::ostringstream out;
  std::ostringstream err;
  std::istringstream in(stdin_text);
  cli::Interrupt interrupt;
  cli::Output output({.out = &out, .err = &err});
  cli::Session session({.output = &output,
                        .interrupt = &interrupt,
                        .in = &in,
                        .in_is_terminal = false,
                        .environment_server = server});
  CliRun run;
  run.exit_code = cli::RunApp(arguments, &session);
  run.out = out.str();
  run.err = err.str();
  return run;
}

}  // namespace sinklora::testing
