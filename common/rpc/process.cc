// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/process.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <map>
#include <system_error>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/metrics/build_info.h"
#include "common/rpc/address.h"
#include "common/rpc/server.h"

ABSL_FLAG(std::string, listen, "",
          "host:port of the gRPC server; port 0 picks a free one; empty: the "
          "program's default");
ABSL_FLAG(std::string, metrics_listen, "",
          "host:port of GET /metrics; port 0 picks a free one; empty: the "
          "program's default");
ABSL_FLAG(bool, allow_remote, false,
          "accept --listen and --metrics_listen addresses that other machines "
          "can reach; there is no authentication");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning or error");
ABSL_FLAG(double, drain_seconds, 10,
          "seconds that running calls get to end after SIGTERM");

namespace sinklora {
namespace {

// What a stop may take beyond the drain before the watchdog ends the process.
constexpr double kStopSlackSeconds = 60;

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

absl::Status SystemError(int error_number, const std::string& action) {
  return absl::Status(
      absl::ErrnoToStatusCode(error_number),
      fmt::format("cannot {}: {}", action,
                  std::generic_category().message(error_number)));
}

absl::Status ApplyLogLevel(const std::string& level) {
  static const auto* const levels =
      new std::map<std::string, LogLevel>{{"debug", LogLevel::kDebug},
                                          {"info", LogLevel::kInfo},
                                          {"warning", LogLevel::kWarning},
                                          {"error", LogLevel::kError}};
  const auto found = levels->find(level);
  if (found == levels->end()) {
    return absl::InvalidArgumentError(fmt::format(
        "--log_level is '{}', must be debug, info, warning or error", level));
  }
  SetLogLevel(found->second);
  return absl::OkStatus();
}

// absl writes flags with '_' and accepts only that; users of command lines
// expect '-'.
std::vector<std::string> WithUnderscores(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  for (std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument.rfind("--", 0) != 0) continue;
    const size_t name_end = std::min(argument.find('='), argument.size());
    for (size_t i = 2; i < name_end; ++i) {
      if (argument[i] == '-') argument[i] = '_';
    }
  }
  return arguments;
}

void ParseFlags(int argc, char** argv, const std::string& usage) {
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [](absl::string_view file) {
    // Ours, not those that libraries define.
    return file.find("main.cc") != absl::string_view::npos ||
           file.find("common/rpc/process.cc") != absl::string_view::npos;
  };
  absl::SetFlagsUsageConfig(config);
  std::vector<std::string> arguments = WithUnderscores(argc, argv);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  absl::ParseCommandLine(argc, pointers.data());
}

std::string FlagOr(const std::string& value, const std::string& otherwise) {
  return value.empty() ? otherwise : value;
}

// Everything that runs, in the order of construction.
struct Process {
  std::unique_ptr<MetricsRegistry> metrics = MetricsRegistry::Create();
  std::unique_ptr<Executor> executor = Executor::Create({.name = "rpc"});
  std::unique_ptr<HostedService> service;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<MetricsExposer> exposer;
};

absl::Status Start(const ProcessOptions& options, const ServiceFactory& factory,
                   Process* process) {
  SL_RETURN_IF_ERROR(ApplyLogLevel(absl::GetFlag(FLAGS_log_level)));
  const bool allow_remote = absl::GetFlag(FLAGS_allow_remote);
  const std::string listen =
      FlagOr(absl::GetFlag(FLAGS_listen), options.listen);
  const std::string metrics_listen =
      FlagOr(absl::GetFlag(FLAGS_metrics_listen), options.metrics_listen);
  SL_RETURN_IF_ERROR(
      ValidateListenAddress("--metrics-listen", metrics_listen, allow_remote));
  ExportBuildInfo(process->metrics.get());
  SL_ASSIGN_OR_RETURN(process->service, factory({process->executor.get(),
                                                 process->metrics.get()}));
  SL_ASSIGN_OR_RETURN(
      process->exposer,
      MetricsExposer::Create(metrics_listen, process->metrics.get()));
  SL_ASSIGN_OR_RETURN(
      process->server,
      RpcServer::Create({.address = listen, .allow_remote = allow_remote},
                        process->service->grpc_services()));
  SL_RETURN_IF_ERROR(process->service->OnListening(process->server->address()));
  process->server->SetServing(true);
  fmt::print("listening on {}, metrics http://{}:{}/metrics\n",
             process->server->address(), HostOf(metrics_listen),
             process->exposer->port());
  std::fflush(stdout);
  return absl::OkStatus();
}

// The server first, so that no call reaches what is taken down after it.
void Stop(double drain_seconds, Process* process) {
  if (process->service != nullptr) process->service->OnStop();
  if (process->server != nullptr) process->server->Drain(drain_seconds);
  process->server.reset();
  process->executor->Shutdown();
  process->service.reset();
}

}  // namespace

absl::Status PrepareProcess() {
  const sigset_t signals = StopSignals();
  const int mask_error = pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (mask_error != 0) return SystemError(mask_error, "block stop signals");
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
      signal(SIGXFSZ, SIG_IGN) == SIG_ERR) {
    return SystemError(errno, "ignore SIGPIPE and SIGXFSZ");
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return SystemError(errno, "read the descriptor limit");
  }
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return SystemError(
        errno, fmt::format("raise the descriptor limit to {}", limit.rlim_max));
  }
  return absl::OkStatus();
}

int WaitForStop(double limit_seconds) {
  const sigset_t signals = StopSignals();
  int number = 0;
  while (sigwait(&signals, &number) != 0) {
  }
  // SIGALRM's default action ends the process, whatever its threads hang in.
  alarm(static_cast<unsigned>(std::ceil(limit_seconds)));
  return number;
}

void RequestStop() { kill(getpid(), SIGTERM); }

int RunProcess(int argc, char** argv, const ProcessOptions& options,
               const ServiceFactory& factory) {
  const absl::Status prepared = PrepareProcess();
  if (!prepared.ok()) LogWarning("{}", std::string(prepared.message()));
  ParseFlags(argc, argv, options.usage);
  const double drain_seconds = absl::GetFlag(FLAGS_drain_seconds);
  Process process;
  const absl::Status started = Start(options, factory, &process);
  if (!started.ok()) {
    LogError("cannot start: {}", started.ToString());
    Stop(/*drain_seconds=*/0, &process);
    return 1;
  }
  const int number = WaitForStop(drain_seconds + kStopSlackSeconds);
  LogInfo("signal {}: draining for at most {} s", number, drain_seconds);
  Stop(drain_seconds, &process);
  LogInfo("stopped");
  return 0;
}

}  // namespace sinklora
