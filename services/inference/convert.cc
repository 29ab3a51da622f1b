// SPDX-License-Identifier: Apache-2.0
#include "services/inference/convert.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "common/base/status.h"

namespace sinklora::inference {
namespace {

absl::StatusOr<CachePolicyKind> ToPolicy(v1::CachePolicy policy) {
  switch (policy) {
    case v1::CACHE_POLICY_UNSPECIFIED:
    case v1::CACHE_POLICY_FULL:
      return CachePolicyKind::kFull;
    case v1::CACHE_POLICY_SLIDING_WINDOW:
      return CachePolicyKind::kSlidingWindow;
    case v1::CACHE_POLICY_STREAMING_LLM:
      return CachePolicyKind::kStreamingLlm;
    case v1::CACHE_POLICY_H2O:
      return CachePolicyKind::kH2o;
    default:
      return absl::InvalidArgumentError(fmt::format(
          "cache.policy is {}, must be a CachePolicy in [0, {}]",
          static_cast<int>(policy), static_cast<int>(v1::CachePolicy_MAX)));
  }
}

v1::CachePolicy FromPolicy(CachePolicyKind policy) {
  switch (policy) {
    case CachePolicyKind::kFull:
      return v1::CACHE_POLICY_FULL;
    case CachePolicyKind::kSlidingWindow:
      return v1::CACHE_POLICY_SLIDING_WINDOW;
    case CachePolicyKind::kStreamingLlm:
      return v1::CACHE_POLICY_STREAMING_LLM;
    case CachePolicyKind::kH2o:
      return v1::CACHE_POLICY_H2O;
  }
  return v1::CACHE_POLICY_UNSPECIFIED;
}

// Unspecified means the model's own.
absl::StatusOr<std::optional<CacheStorage>> ToStorage(
    v1::CacheStorage storage) {
  switch (storage) {
    case v1::CACHE_STORAGE_UNSPECIFIED:
      return std::nullopt;
    case v1::CACHE_STORAGE_FLOAT32:
      return CacheStorage::kFloat32;
    case v1::CACHE_STORAGE_BFLOAT16:
      return CacheStorage::kBfloat16;
    case v1::CACHE_STORAGE_INT8:
      return CacheStorage::kInt8;
    default:
      return absl::InvalidArgumentError(fmt::format(
          "cache.storage is {}, must be a CacheStorage in [0, {}]",
          static_cast<int>(storage), static_cast<int>(v1::CacheStorage_MAX)));
  }
}

v1::CacheStorage FromStorage(CacheStorage storage) {
  switch (storage) {
    case CacheStorage::kFloat32:
      return v1::CACHE_STORAGE_FLOAT32;
    case CacheStorage::kBfloat16:
      return v1::CACHE_STORAGE_BFLOAT16;
    case CacheStorage::kInt8:
      return v1::CACHE_STORAGE_INT8;
  }
  return v1::CACHE_STORAGE_UNSPECIFIED;
}

absl::StatusOr<CacheOptions> ToCacheOptions(const v1::CacheConfig& config) {
  CacheOptions options;
  SL_ASSIGN_OR_RETURN(options.policy, ToPolicy(config.policy()));
  switch (config.budget_case()) {
    case v1::CacheConfig::kBudgetTokens:
      options.budget_tokens = config.budget_tokens();
      break;
    case v1::CacheConfig::kPromptRatio:
      options.prompt_ratio = config.prompt_ratio();
      break;
    case v1::CacheConfig::kContextRatio:
      options.context_ratio = config.context_ratio();
      break;
    case v1::CacheConfig::BUDGET_NOT_SET:
      break;
  }
  if (config.has_recent_tokens()) {
    options.recent_tokens = config.recent_tokens();
  }
  if (config.has_sink_tokens()) options.sink_tokens = config.sink_tokens();
  SL_ASSIGN_OR_RETURN(options.storage, ToStorage(config.storage()));
  return options;
}

SamplingOptions ToSampling(const v1::Sampling& sampling) {
  SamplingOptions options;
  options.temperature = sampling.temperature();
  options.top_k = sampling.top_k();
  if (sampling.has_top_p()) options.top_p = sampling.top_p();
  options.seed = sampling.seed();
  return options;
}

void SetPrompt(const v1::GenerateRequest& request, GenerationParams* params) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      params->prompt = request.text();
      break;
    case v1::GenerateRequest::kTokenIds:
      params->prompt = std::vector<int32_t>(request.token_ids().ids().begin(),
                                            request.token_ids().ids().end());
      break;
    case v1::GenerateRequest::kChat: {
      ChatPromptParams chat;
      chat.chat_template = request.chat().chat_template();
      for (const v1::ChatMessage& message : request.chat().messages()) {
        chat.turns.push_back({message.role(), message.content()});
      }
      params->prompt = std::move(chat);
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
}

v1::WeightType FromWeightType(WeightType type) {
  switch (type) {
    case WeightType::kFloat32:
      return v1::WEIGHT_TYPE_FLOAT32;
    case WeightType::kBfloat16:
      return v1::WEIGHT_TYPE_BFLOAT16;
    case WeightType::kInt8:
      return v1::WEIGHT_TYPE_INT8;
    case WeightType::kInt4:
      return v1::WEIGHT_TYPE_INT4;
  }
  return v1::WEIGHT_TYPE_UNSPECIFIED;
}

}  // namespace

TargetSpec ToSpec(const v1::Target& target) {
  return {target.model(), target.adapter(), target.context_tokens()};
}

absl::StatusOr<GenerationParams> ToParams(const v1::GenerateRequest& request) {
  GenerationParams params;
  SetPrompt(request, &params);
  if (request.has_max_tokens()) params.max_tokens = request.max_tokens();
  params.stop.assign(request.stop().begin(), request.stop().end());
  params.sampling = ToSampling(request.sampling());
  SL_ASSIGN_OR_RETURN(params.cache, ToCacheOptions(request.cache()));
  params.ignore_eos = request.ignore_eos();
  return params;
}

v1::GenerateResponse ToStarted(const GenerationRequest& request) {
  v1::GenerateResponse response;
  v1::GenerateStarted* started = response.mutable_started();
  v1::ResolvedCache* cache = started->mutable_cache();
  cache->set_policy(FromPolicy(request.cache.policy));
  cache->set_budget_tokens(request.cache.budget_tokens);
  cache->set_recent_tokens(request.cache.recent_tokens);
  cache->set_sink_tokens(request.cache.sink_tokens);
  cache->set_heavy_tokens(request.cache.heavy_tokens);
  cache->set_storage(FromStorage(request.cache.storage));
  v1::Sampling* sampling = started->mutable_sampling();
  sampling->set_temperature(request.sampling.temperature);
  sampling->set_top_k(request.sampling.top_k);
  sampling->set_top_p(request.sampling.top_p);
  sampling->set_seed(request.sampling.seed);
  started->set_prompt_tokens(static_cast<int64_t>(request.prompt.size()));
  started->set_max_tokens(static_cast<int32_t>(request.max_tokens));
  started->set_context_tokens(request.target->model->context_tokens());
  return response;
}

v1::GenerateResponse ToDelta(const GenerationDelta& delta) {
  v1::GenerateResponse response;
  response.mutable_delta()->set_text(delta.text);
  response.mutable_delta()->mutable_token_ids()->Add(delta.token_ids.begin(),
                                                     delta.token_ids.end());
  return response;
}

v1::GenerateResponse ToFinished(const GenerationResult& result) {
  v1::GenerateResponse response;
  v1::GenerateFinished* finished = response.mutable_finished();
  finished->set_finish_reason(result.finish_reason == FinishReason::kStop
                                  ? v1::FINISH_REASON_STOP
                                  : v1::FINISH_REASON_LENGTH);
  v1::Usage* usage = finished->mutable_usage();
  usage->set_prompt_tokens(result.usage.prompt_tokens);
  usage->set_generated_tokens(result.usage.generated_tokens);
  usage->set_resident_tokens(result.usage.cache.resident_tokens);
  usage->set_resident_bytes(result.usage.cache.resident_bytes);
  usage->set_peak_resident_bytes(result.usage.cache.peak_resident_bytes);
  usage->set_evicted_tokens(result.usage.cache.evicted_tokens);
  usage->set_time_to_first_token_seconds(
      result.usage.time_to_first_token_seconds);
  usage->set_prefill_seconds(result.usage.prefill_seconds);
  usage->set_decode_seconds(result.usage.decode_seconds);
  return response;
}

v1::LoadedModel ToLoadedModel(const ServedTarget& target) {
  v1::LoadedModel loaded;
  loaded.mutable_target()->set_model(target.spec.model);
  loaded.mutable_target()->set_adapter(target.spec.adapter);
  loaded.mutable_target()->set_context_tokens(target.spec.context_tokens);
  loaded.set_context_tokens(target.model->context_tokens());
  loaded.set_rope_factor(target.model->rope_factor());
  loaded.set_weight_bytes(target.weight_bytes());
  loaded.set_running_requests(target.running_requests.load());
  loaded.set_weight_type(FromWeightType(target.base->weights->weight_type()));
  return loaded;
}

}  // namespace sinklora::inference
