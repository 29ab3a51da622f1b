// SPDX-License-Identifier: Apache-2.0
#include "services/inference/metrics.h"

#include "absl/strings/str_cat.h"

namespace sinklora::inference {
namespace {

constexpr std::array<const char*, 6> kMethods = {
    "Generate", "Score", "Tokenize", "LoadModel", "UnloadModel", "ListModels"};

constexpr std::array<absl::StatusCode, 17> kCodes = {
    absl::StatusCode::kOk,
    absl::StatusCode::kCancelled,
    absl::StatusCode::kUnknown,
    absl::StatusCode::kInvalidArgument,
    absl::StatusCode::kDeadlineExceeded,
    absl::StatusCode::kNotFound,
    absl::StatusCode::kAlreadyExists,
    absl::StatusCode::kPermissionDenied,
    absl::StatusCode::kResourceExhausted,
    absl::StatusCode::kFailedPrecondition,
    absl::StatusCode::kAborted,
    absl::StatusCode::kOutOfRange,
    absl::StatusCode::kUnimplemented,
    absl::StatusCode::kInternal,
    absl::StatusCode::kUnavailable,
    absl::StatusCode::kDataLoss,
    absl::StatusCode::kUnauthenticated};

constexpr std::array<const char*, 4> kEndReasons = {"stop", "length",
                                                    "cancelled", "error"};

constexpr std::array<const char*, 3> kRejectReasons = {"queue_full", "draining",
                                                       "memory"};

constexpr std::array<const char*, 4> kStepKinds = {"run", "recorded",
                                                   "repeated", "refused"};

constexpr std::array<std::string_view, 4> kPolicies = {"full", "sliding_window",
                                                       "streaming_llm", "h2o"};

// Shares of the tokens seen that are still resident.
const std::vector<double>& RatioBuckets() {
  static const auto* const buckets = new std::vector<double>{
      0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0};
  return *buckets;
}

// Sequences decoded together.
const std::vector<double>& BatchBuckets() {
  static const auto* const buckets =
      new std::vector<double>{1, 2, 4, 8, 16, 32, 64};
  return *buckets;
}

}  // namespace

std::string_view PolicyLabel(CachePolicyKind policy) {
  return kPolicies[static_cast<size_t>(policy)];
}

InferenceMetrics::InferenceMetrics(MetricsRegistry* registry) {
  for (const char* method : kMethods) {
    MethodMetrics& metrics = methods_[method];
    for (const absl::StatusCode code : kCodes) {
      metrics.requests[code] = registry->GetCounter(
          "sinklora_inference_requests_total", "Calls ended, by status code.",
          {{"method", method},
           {"code", std::string(absl::StatusCodeToString(code))}});
    }
    metrics.duration_seconds =
        registry->GetHistogram("sinklora_inference_request_duration_seconds",
                               "Seconds from a call's arrival to its end.",
                               LatencyBuckets(), {{"method", method}});
  }
  for (size_t i = 0; i < kPolicies.size(); ++i) {
    const Labels labels = {{"policy", std::string(kPolicies[i])}};
    policies_[i].resident_tokens = registry->GetGauge(
        "sinklora_inference_kv_resident_tokens",
        "Tokens held per layer and kv head, summed over running requests.",
        labels);
    policies_[i].resident_bytes = registry->GetGauge(
        "sinklora_inference_kv_resident_bytes",
        "Bytes of keys and values held by running requests.", labels);
    policies_[i].evicted_tokens =
        registry->GetCounter("sinklora_inference_kv_evicted_tokens_total",
                             "Tokens evicted per layer and kv head.", labels);
    policies_[i].generations =
        registry->GetCounter("sinklora_inference_generations_total",
                             "Generations started, by cache policy.", labels);
  }
  for (size_t i = 0; i < kEndReasons.size(); ++i) {
    finished_[i] = registry->GetCounter("sinklora_inference_finished_total",
                                        "Generations ended, by reason.",
                                        {{"reason", kEndReasons[i]}});
  }
  for (size_t i = 0; i < kRejectReasons.size(); ++i) {
    rejected_[i] = registry->GetCounter(
        "sinklora_inference_rejections_total",
        "Requests refused before any work on them, by reason.",
        {{"reason", kRejectReasons[i]}});
  }
  for (size_t i = 0; i < kStepKinds.size(); ++i) {
    decode_steps_[i] = registry->GetCounter(
        "sinklora_inference_decode_steps_total",
        "Steps of decoding of one target, by how the device was asked.",
        {{"kind", kStepKinds[i]}});
  }
  time_to_first_token_seconds = registry->GetHistogram(
      "sinklora_inference_time_to_first_token_seconds",
      "Seconds from a Generate call's arrival to its first new token.",
      TtftBuckets());
  inter_token_latency_seconds = registry->GetHistogram(
      "sinklora_inference_inter_token_latency_seconds",
      "Seconds between two tokens of one generation.", InterTokenBuckets());
  queue_duration_seconds = registry->GetHistogram(
      "sinklora_inference_queue_duration_seconds",
      "Seconds a request waited for the engine.", LatencyBuckets());
  decode_batch_sequences = registry->GetHistogram(
      "sinklora_inference_decode_batch_sequences",
      "Generations that one step of decoding brought a token each.",
      BatchBuckets());
  kv_resident_ratio = registry->GetHistogram(
      "sinklora_inference_kv_resident_ratio",
      "Share of a generation's tokens that was resident at its end.",
      RatioBuckets());
  kv_retained_attention_mass_ratio = registry->GetHistogram(
      "sinklora_inference_kv_retained_attention_mass_ratio",
      "Share of all attention an H2O generation paid that went to tokens held "
      "at its end.",
      RatioBuckets());
  requests_running =
      registry->GetGauge("sinklora_inference_requests_running",
                         "Generations and scores the engine works on.");
  requests_queued =
      registry->GetGauge("sinklora_inference_requests_queued",
                         "Generations and scores that wait for the engine.");
  loaded_models =
      registry->GetGauge("sinklora_inference_loaded_models",
                         "Loaded targets (model, adapter, context).");
  memory_limit_bytes =
      registry->GetGauge("sinklora_inference_memory_limit_bytes",
                         "Device memory that weights and running generations "
                         "may take.");
  memory_planned_bytes = registry->GetGauge(
      "sinklora_inference_memory_planned_bytes",
      "Device memory that the running generations were admitted for.");
  prompt_tokens =
      registry->GetCounter("sinklora_inference_prompt_tokens_total",
                           "Prompt tokens of generations, as processed.");
  generated_tokens = registry->GetCounter(
      "sinklora_inference_generated_tokens_total", "Tokens generated.");
  scored_tokens = registry->GetCounter("sinklora_inference_scored_tokens_total",
                                       "Tokens scored by Score.");
  score_errors = registry->GetCounter(
      "sinklora_inference_score_errors_total",
      "Generations failed because attention scores broke their invariant.");
  registry_errors = registry->GetCounter(
      "sinklora_inference_registry_errors_total",
      "Look-ups and downloads for which the registry was unreachable.");
}

void InferenceMetrics::ObserveCall(const std::string& method,
                                   const absl::Status& status, double seconds) {
  const MethodMetrics& metrics = methods_.at(method);
  auto it = metrics.requests.find(status.code());
  if (it == metrics.requests.end()) {
    it = metrics.requests.find(absl::StatusCode::kUnknown);
  }
  it->second->Increment();
  metrics.duration_seconds->Observe(seconds);
}

}  // namespace sinklora::inference
