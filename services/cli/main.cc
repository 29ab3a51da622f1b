// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "services/cli/app.h"
#include "services/cli/interrupt.h"

namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  // A closed pipe or a file that may not grow is an error of the write, not the
  // end of the process with half-written files.
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  const auto interrupt = sinklora::cli::Interrupt::Install();
  sinklora::cli::Output output(
      {.out = &std::cout,
       .err = &std::cerr,
       .out_is_terminal = isatty(STDOUT_FILENO) == 1,
       .err_is_terminal = isatty(STDERR_FILENO) == 1,
       .allow_color =
           Environment("NO_COLOR").empty() && Environment("TERM") != "dumb"});
  sinklora::cli::Session session(
      {.output = &output,
       .interrupt = interrupt.get(),
       .in = &std::cin,
       .in_is_terminal = isatty(STDIN_FILENO) == 1,
       .environment_server = Environment("SINKLORA_SERVER")});
  return sinklora::cli::RunApp(std::vector<std::string>(argv + 1, argv + argc),
                               &session);
}
