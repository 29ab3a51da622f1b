// What every command gets: the global flags, where to print, and clients of the
// services. Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_SESSION_H_
#define SINKLORA_SERVICES_CLI_SESSION_H_

#include <functional>
#include <istream>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "services/cli/curator_client.h"
#include "services/cli/endpoints.h"
#include "services/cli/inference_client.h"
#include "services/cli/interrupt.h"
#include "services/cli/output.h"
#include "services/cli/registry_client.h"
#include "services/cli/trainer_client.h"

namespace sinklora::cli {

class Session {
 public:
  struct Options {
    Output* output = nullptr;        // borrowed
    Interrupt* interrupt = nullptr;  // borrowed
    std::istream* in = nullptr;      // borrowed
    bool in_is_terminal = false;
    std::string environment_server;  // value of SINKLORA_SERVER, or empty
  };
  explicit Session(const Options& options) : options_(options) {}

  Output& output() { return *options_.output; }
  Interrupt* interrupt() { return options_.interrupt; }
  std::istream& in() { return *options_.in; }
  bool in_is_terminal() const { return options_.in_is_terminal; }
  const Clock* clock() const { return RealClock(); }

  // Set by the parser before the command runs.
  EndpointFlags endpoint_flags;
  std::string request_id_flag;
  std::function<absl::Status()> command;

  // --request-id, or a new one: the same for the whole invocation.
  const std::string& RequestId();

  // Connected at first use. Errors are those of ResolveEndpoints.
  absl::StatusOr<CuratorClient*> Curator();
  absl::StatusOr<TrainerClient*> Trainer();
  absl::StatusOr<RegistryClient*> Registry();
  absl::StatusOr<InferenceClient*> Inference();

 private:
  Options options_;
  std::unique_ptr<CuratorClient> curator_;
  std::unique_ptr<TrainerClient> trainer_;
  std::unique_ptr<RegistryClient> registry_;
  std::unique_ptr<InferenceClient> inference_;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_SESSION_H_
