// Flags that the commands of the inference service share: which weights, which
// cache, how to sample.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_GENERATION_FLAGS_H_
#define SINKLORA_SERVICES_CLI_GENERATION_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sinklora/inference/v1/inference_service.pb.h"

namespace sinklora::cli {

struct TargetFlags {
  std::string model;
  std::string adapter;
  int64_t context_tokens = 0;
};
// --model, --adapter and the serving context under `context_flag`.
void AddTargetFlags(CLI::App* command, TargetFlags* flags,
                    const std::string& context_flag);
inference::v1::Target TargetOf(const TargetFlags& flags);

struct CacheFlags {
  std::string policy = "full";
  std::optional<int64_t> budget_tokens;
  std::optional<double> prompt_ratio;
  std::optional<double> context_ratio;
  std::optional<int64_t> recent_tokens;
  std::optional<int64_t> sink_tokens;
  std::string storage;  // empty: the model's own
};
// --cache and the --cache-* flags.
void AddCacheFlags(CLI::App* command, CacheFlags* flags);
inference::v1::CacheConfig CacheOf(const CacheFlags& flags);

struct SamplingFlags {
  double temperature = 0;
  int32_t top_k = 0;
  std::optional<double> top_p;
  uint64_t seed = 0;
  std::optional<int32_t> max_tokens;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};
// --temperature, --top-k, --top-p, --seed, --max-tokens, --stop, --ignore-eos.
void AddSamplingFlags(CLI::App* command, SamplingFlags* flags);
void FillSampling(const SamplingFlags& flags,
                  inference::v1::GenerateRequest* request);

// A name of --cache for a policy, "-" for an unknown one.
std::string CachePolicyName(inference::v1::CachePolicy policy);
std::string FinishReasonName(inference::v1::FinishReason reason);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_GENERATION_FLAGS_H_
