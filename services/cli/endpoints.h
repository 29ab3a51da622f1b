// Which address each service is reached at.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_ENDPOINTS_H_
#define SINKLORA_SERVICES_CLI_ENDPOINTS_H_

#include <string>

#include "absl/status/statusor.h"

namespace sinklora::cli {

// As given on the command line; empty means not given.
struct EndpointFlags {
  std::string server;
  std::string data_dir;
  std::string curator;
  std::string trainer;
  std::string registry;
  std::string inference;
};

// host:port of every service.
struct Endpoints {
  std::string curator;
  std::string trainer;
  std::string registry;
  std::string inference;
};

// The server is --server, else what DATA_DIR/endpoint.json says, else
// `environment_server` (the variable SINKLORA_SERVER), else 127.0.0.1:7070.
// --curator, --trainer, --registry and --inference override it; the registry
// lives in the trainer's process, so --trainer moves both. kNotFound when a
// given data directory has no readable endpoint.json.
absl::StatusOr<Endpoints> ResolveEndpoints(
    const EndpointFlags& flags, const std::string& environment_server);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_ENDPOINTS_H_
