// Every Prometheus family of the inference service. Families and label sets
// exist, at 0, from construction on.
//
// Thread-safe after construction. Borrows the registry, which must outlive it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_METRICS_H_
#define SINKLORA_SERVICES_INFERENCE_METRICS_H_

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/metrics/metrics.h"
#include "common/model/options.h"

namespace sinklora::inference {

// Label value of a policy: "full", "sliding_window", "streaming_llm", "h2o".
std::string_view PolicyLabel(CachePolicyKind policy);

// Why a request was refused before any work on it.
enum class RejectReason { kQueueFull, kDraining, kMemory };

// How a generation ended.
enum class EndReason { kStop, kLength, kCancelled, kError };

// How the device was asked for a step of decoding; see kernels/repeat/repeat.h.
enum class StepKind { kRun, kRecorded, kRepeated, kRefused };

class InferenceMetrics {
 public:
  explicit InferenceMetrics(MetricsRegistry* registry);

  // Families of one cache policy. Tokens are per layer and kv head.
  struct PolicyMetrics {
    Gauge* resident_tokens = nullptr;
    Gauge* resident_bytes = nullptr;
    Counter* evicted_tokens = nullptr;
    Counter* generations = nullptr;
  };
  const PolicyMetrics& policy(CachePolicyKind policy) const {
    return policies_[static_cast<size_t>(policy)];
  }
  Counter* finished(EndReason reason) const {
    return finished_[static_cast<size_t>(reason)];
  }
  Counter* rejected(RejectReason reason) const {
    return rejected_[static_cast<size_t>(reason)];
  }
  Counter* decode_steps(StepKind kind) const {
    return decode_steps_[static_cast<size_t>(kind)];
  }
  // Counts and times a call at its end. REQUIRES: `method` is one of the
  // service's methods.
  void ObserveCall(const std::string& method, const absl::Status& status,
                   double seconds);

  Histogram* time_to_first_token_seconds = nullptr;
  Histogram* inter_token_latency_seconds = nullptr;
  Histogram* queue_duration_seconds = nullptr;
  Histogram* decode_batch_sequences = nullptr;
  Histogram* kv_resident_ratio = nullptr;
  Histogram* kv_retained_attention_mass_ratio = nullptr;
  Gauge* requests_running = nullptr;
  Gauge* requests_queued = nullptr;
  Gauge* loaded_models = nullptr;
  Gauge* memory_limit_bytes = nullptr;
  Gauge* memory_planned_bytes = nullptr;
  Counter* prompt_tokens = nullptr;
  Counter* generated_tokens = nullptr;
  Counter* scored_tokens = nullptr;
  Counter* score_errors = nullptr;
  Counter* registry_errors = nullptr;

 private:
  struct MethodMetrics {
    std::map<absl::StatusCode, Counter*> requests;
    Histogram* duration_seconds = nullptr;
  };
  std::map<std::string, MethodMetrics> methods_;
  std::array<PolicyMetrics, 4> policies_;
  std::array<Counter*, 4> finished_{};
  std::array<Counter*, 3> rejected_{};
  std::array<Counter*, 4> decode_steps_{};
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_METRICS_H_
