// sinklora-init-model: a randomly initialised Llama from a config.json.
//
// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/llama_config.h"
#include "common/weights/random_model.h"
#include "fmt/format.h"

namespace {

constexpr char kUsage[] =
    R"(Writes a Llama with random weights.

  sinklora-init-model --out DIR --config FILE [--seed S]

  --out DIR       writes config.json and model.safetensors (bf16) there
  --config FILE   config.json of the model
  --seed S        seed of the weights (0)
)";

}  // namespace

namespace sinklora {
namespace {

absl::Status Run(const std::string& out, const std::string& config_path,
                 uint64_t seed) {
  if (out.empty()) return absl::InvalidArgumentError("--out is required");
  if (config_path.empty()) {
    return absl::InvalidArgumentError("--config is required");
  }
  SL_ASSIGN_OR_RETURN(const std::string json, ReadFile(config_path));
  const auto config = ParseLlamaConfig(json);
  if (!config.ok()) return Annotate(config.status(), config_path);
  SL_RETURN_IF_ERROR(WriteRandomModel(out, json, seed));
  fmt::print("{}: {} parameters, context {}\n", out, config->parameter_count(),
             config->context_tokens());
  return absl::OkStatus();
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  constexpr option kOptions[] = {{"out", required_argument, nullptr, 'o'},
                                 {"config", required_argument, nullptr, 'c'},
                                 {"seed", required_argument, nullptr, 's'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {nullptr, 0, nullptr, 0}};
  std::string out, config;
  uint64_t seed = 0;
  int choice = 0;
  while ((choice = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    if (choice == 'o') {
      out = optarg;
    } else if (choice == 'c') {
      config = optarg;
    } else if (choice == 's' && absl::SimpleAtoi(optarg, &seed)) {
      continue;
    } else {
      fmt::print(choice == 'h' ? stdout : stderr, "{}", kUsage);
      return choice == 'h' ? 0 : 2;
    }
  }
  const absl::Status status = sinklora::Run(out, config, seed);
  if (status.ok()) return 0;
  fmt::print(stderr, "sinklora-init-model: {}\n",
             std::string(status.message()));
  return 1;
}
