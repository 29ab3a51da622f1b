// Exit codes of the `sinklora` command, for scripts. Part of the public
// interface.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_EXIT_CODE_H_
#define SINKLORA_SERVICES_CLI_EXIT_CODE_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora::cli {

enum ExitCode {
  kExitOk = 0,
  kExitUsage = 1,        // the command line is wrong
  kExitRefused = 2,      // the request breaks a rule or meets a wrong state
  kExitNotFound = 3,     // a name or a file does not exist
  kExitUnavailable = 4,  // no server, a deadline, or no capacity: try again
  kExitJobEnded = 5,     // a watched job failed or was cancelled
  kExitInternal = 6,     // anything else
  kExitInterrupted = 130,
};

// The code for the status a command ended with.
int ExitCodeOf(const absl::Status& status);

// A wrong command line that only the command itself can see, e.g. two flags
// that exclude each other.
absl::Status UsageError(const std::string& message);
// A watched job that ended without success.
absl::Status JobEndedError(const std::string& message);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_EXIT_CODE_H_
