// What the main() of every process of the product shares: flags, signals,
// descriptors, start, announcement, drain.
//
//   int main(int argc, char** argv) {
//     return sinklora::RunProcess(argc, argv, {.usage = "sinklora-trainer:
//     keeps training jobs"},
//                                 [](const sinklora::ProcessEnv& env) { return
//                                 MakeTrainer(env); });
//   }
//
// Flags: --listen and --metrics-listen (host:port, port 0 picks one),
// --allow-remote, --log-level, --drain-seconds, and those the program defines
// itself (ABSL_FLAG in its main.cc).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_PROCESS_H_
#define SINKLORA_COMMON_RPC_PROCESS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora {

// What a hosted service may use. Borrowed; outlives the service.
struct ProcessEnv {
  Executor* executor = nullptr;  // for RpcContext
  MetricsRegistry* metrics = nullptr;
};

// The part of a process that differs: its services and their threads. Destroyed
// after the server is down.
class HostedService {
 public:
  virtual ~HostedService() = default;
  // Served until the drain. May be empty (health, reflection and metrics are
  // served all the same).
  virtual std::vector<grpc::Service*> grpc_services() = 0;
  // Called once, after the server listens on `address` (host:port) and before
  // the process announces itself.
  virtual absl::Status OnListening(const std::string& /*address*/) {
    return absl::OkStatus();
  }
  // Called once when the process is told to stop, before the server drains: end
  // long-lived streams, start no new background work, finish or hand back what
  // runs. Must not block for long.
  virtual void OnStop() {}
};

struct ProcessOptions {
  std::string usage;  // first lines of --help
  // Defaults of the flags --listen and --metrics-listen.
  std::string listen = "127.0.0.1:0";
  std::string metrics_listen = "127.0.0.1:0";
};

using ServiceFactory =
    std::function<absl::StatusOr<std::unique_ptr<HostedService>>(
        const ProcessEnv&)>;

// Runs a process to its end and returns its exit code: parses flags, prepares
// the process, starts the service, prints one line "listening on HOST:PORT,
// metrics http://HOST:PORT/metrics" to stdout, waits for SIGTERM, SIGINT or
// RequestStop(), drains. 0 after a stop that was asked for, 1 when the start
// failed (the reason is logged).
int RunProcess(int argc, char** argv, const ProcessOptions& options,
               const ServiceFactory& factory);

// The pieces, for programs with a shape of their own.

// Blocks SIGTERM and SIGINT (for WaitForStop), ignores SIGPIPE and SIGXFSZ (a
// peer that went away and a file that may not grow are errors of one write) and
// raises the descriptor limit to the hard one. Call first in main, before any
// thread starts: threads inherit the mask.
absl::Status PrepareProcess();
// Blocks until SIGTERM or SIGINT arrives or RequestStop is called. Returns the
// signal's number. After it a watchdog ends the process with failure if it is
// still there after `limit_seconds`: a stop must never hang.
int WaitForStop(double limit_seconds);
// Makes WaitForStop return. Any thread.
void RequestStop();

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_PROCESS_H_
