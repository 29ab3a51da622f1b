// SPDX-License-Identifier: Apache-2.0
#include "services/cli/generation_flags.h"

#include <array>
#include <utility>

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

constexpr std::array<std::pair<const char*, v1::CachePolicy>, 4> kPolicies = {{
    {"full", v1::CACHE_POLICY_FULL},
    {"sliding", v1::CACHE_POLICY_SLIDING_WINDOW},
    {"streaming", v1::CACHE_POLICY_STREAMING_LLM},
    {"h2o", v1::CACHE_POLICY_H2O},
}};

constexpr std::array<std::pair<const char*, v1::CacheStorage>, 3> kStorages = {{
    {"float32", v1::CACHE_STORAGE_FLOAT32},
    {"bfloat16", v1::CACHE_STORAGE_BFLOAT16},
    {"int8", v1::CACHE_STORAGE_INT8},
}};

}  // namespace

void AddTargetFlags(CLI::App* command, TargetFlags* flags,
                    const std::string& context_flag) {
  command->add_option("--model", flags->model, "Model of the registry")
      ->required();
  CLI::Option* adapter =
      command->add_option("--adapter", flags->adapter, "Adapter of that model");
  command
      ->add_option(context_flag, flags->context_tokens,
                   "Serve the untuned model with RoPE scaled linearly to this "
                   "context; default: its own")
      ->excludes(adapter);
}

v1::Target TargetOf(const TargetFlags& flags) {
  v1::Target target;
  target.set_model(flags.model);
  target.set_adapter(flags.adapter);
  target.set_context_tokens(flags.context_tokens);
  return target;
}

void AddCacheFlags(CLI::App* command, CacheFlags* flags) {
  std::vector<std::string> names;
  for (const auto& [name, policy] : kPolicies) names.emplace_back(name);
  command->add_option("--cache", flags->policy, "What is kept of the past")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  CLI::Option* tokens =
      command->add_option("--cache-budget-tokens", flags->budget_tokens,
                          "Tokens to keep per layer and kv head");
  CLI::Option* prompt =
      command->add_option("--cache-prompt-ratio", flags->prompt_ratio,
                          "Budget as a share of the prompt, in (0, 1]");
  prompt->excludes(tokens);
  command
      ->add_option("--cache-context-ratio", flags->context_ratio,
                   "Budget as a share of the model's context, in (0, 1]")
      ->excludes(tokens)
      ->excludes(prompt);
  command->add_option("--recent-tokens", flags->recent_tokens,
                      "h2o: recent window; default: half of the budget");
  command->add_option("--sink-tokens", flags->sink_tokens,
                      "h2o, streaming: first tokens never evicted; default 4");
  std::vector<std::string> storages;
  for (const auto& [name, storage] : kStorages) storages.emplace_back(name);
  command
      ->add_option("--cache-storage", flags->storage,
                   "How keys and values are stored; default: bfloat16 beside "
                   "bfloat16 weights, else float32")
      ->check(CLI::IsMember(storages));
}

v1::CacheConfig CacheOf(const CacheFlags& flags) {
  v1::CacheConfig cache;
  for (const auto& [name, policy] : kPolicies) {
    if (flags.policy == name) cache.set_policy(policy);
  }
  if (flags.budget_tokens) cache.set_budget_tokens(*flags.budget_tokens);
  if (flags.prompt_ratio) cache.set_prompt_ratio(*flags.prompt_ratio);
  if (flags.context_ratio) cache.set_context_ratio(*flags.context_ratio);
  if (flags.recent_tokens) cache.set_recent_tokens(*flags.recent_tokens);
  if (flags.sink_tokens) cache.set_sink_tokens(*flags.sink_tokens);
  for (const auto& [name, storage] : kStorages) {
    if (flags.storage == name) cache.set_storage(storage);
  }
  return cache;
}

void AddSamplingFlags(CLI::App* command, SamplingFlags* flags) {
  command->add_option("--max-tokens", flags->max_tokens,
                      "At most this many new tokens; default 128");
  command->add_option("--temperature", flags->temperature,
                      "0 is greedy, the default");
  command->add_option("--top-k", flags->top_k,
                      "Only the k most likely tokens; 0, the default: all");
  command->add_option("--top-p", flags->top_p,
                      "Smallest set with this probability; default 1");
  command->add_option("--seed", flags->seed, "Seed of sampling")
      ->capture_default_str();
  command
      ->add_option("--stop", flags->stop,
                   "A string that ends the text; repeatable")
      ->allow_extra_args(false);
  command->add_flag("--ignore-eos", flags->ignore_eos,
                    "Go on after the model's end token");
}

void FillSampling(const SamplingFlags& flags, v1::GenerateRequest* request) {
  v1::Sampling* sampling = request->mutable_sampling();
  sampling->set_temperature(flags.temperature);
  sampling->set_top_k(flags.top_k);
  if (flags.top_p) sampling->set_top_p(*flags.top_p);
  sampling->set_seed(flags.seed);
  if (flags.max_tokens) request->set_max_tokens(*flags.max_tokens);
  for (const std::string& stop : flags.stop) request->add_stop(stop);
  request->set_ignore_eos(flags.ignore_eos);
}

std::string CachePolicyName(v1::CachePolicy policy) {
  for (const auto& [name, value] : kPolicies) {
    if (value == policy) return name;
  }
  return "-";
}

std::string FinishReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "-";
  }
}

}  // namespace sinklora::cli
