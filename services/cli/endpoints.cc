// SPDX-License-Identifier: Apache-2.0
#include "services/cli/endpoints.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/files.h"
#include "common/base/status.h"

namespace sinklora::cli {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:7070";

absl::StatusOr<std::string> ServerOfDataDir(const std::string& data_dir) {
  const std::string path = JoinPath(data_dir, "endpoint.json");
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("grpc") ||
      !json["grpc"].is_string()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: no string field \"grpc\" in it", path));
  }
  return json["grpc"].get<std::string>();
}

absl::StatusOr<std::string> Server(const EndpointFlags& flags,
                                   const std::string& environment_server) {
  if (!flags.server.empty()) return flags.server;
  if (!flags.data_dir.empty()) return ServerOfDataDir(flags.data_dir);
  if (!environment_server.empty()) return environment_server;
  return std::string(kDefaultServer);
}

}  // namespace

absl::StatusOr<Endpoints> ResolveEndpoints(
    const EndpointFlags& flags, const std::string& environment_server) {
  SL_ASSIGN_OR_RETURN(const std::string server,
                      Server(flags, environment_server));
  const auto pick = [](const std::string& flag, const std::string& otherwise) {
    return flag.empty() ? otherwise : flag;
  };
  Endpoints result;
  result.curator = pick(flags.curator, server);
  result.trainer = pick(flags.trainer, server);
  result.registry = pick(flags.registry, result.trainer);
  result.inference = pick(flags.inference, server);
  return result;
}

}  // namespace sinklora::cli
