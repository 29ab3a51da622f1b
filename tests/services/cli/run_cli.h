// Runs the `sinklora` command inside the test's process, as in a shell with no
// terminal.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_CLI_RUN_CLI_H_
#define SINKLORA_TESTS_SERVICES_CLI_RUN_CLI_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sinklora::testing {

struct CliRun {
  int exit_code = -1;
  std::string out;
  std::string err;

  // The document on stdout; discarded() when it is not one.
  nlohmann::ordered_json json() const {
    return nlohmann::ordered_json::parse(out, nullptr, false);
  }
};

// `server` is what SINKLORA_SERVER would say.
CliRun RunCli(const std::string& server,
              const std::vector<std::string>& arguments,
              const std::string& stdin_text = "");

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_CLI_RUN_CLI_H_
