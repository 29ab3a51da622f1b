// The engine's side of one generation: its sequence, its text so far, what it
// cost.
//
// Made anywhere, used and destroyed on the engine thread: it owns device
// memory.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_GENERATION_TASK_H_
#define SINKLORA_SERVICES_INFERENCE_GENERATION_TASK_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/model/sampler.h"
#include "services/inference/generation.h"
#include "services/inference/metrics.h"
#include "services/inference/stop_matcher.h"

namespace sinklora::inference {

class GenerationTask {
 public:
  // Borrows `metrics` and `clock`. Counts as a running request of its target
  // from here to its destruction, which also tells the consumer the outcome: by
  // then the engine has brought every count up to date.
  GenerationTask(GenerationRequest request,
                 std::shared_ptr<EventChannel> channel,
                 int64_t prefill_chunk_tokens, InferenceMetrics* metrics,
                 Clock* clock);
  ~GenerationTask();
  GenerationTask(const GenerationTask&) = delete;
  GenerationTask& operator=(const GenerationTask&) = delete;

  // The client went away, or asked to stop.
  bool Cancelled() const;
  // The consumer has yet to take what is there: do not step.
  bool Blocked() const { return channel_->Full(); }
  bool done() const { return outcome_.has_value(); }
  // Device memory it takes at most from here on, and how much of that it does
  // not hold yet.
  int64_t planned_bytes() const {
    return decoding() ? plan_.decode_bytes : plan_.peak_bytes();
  }
  int64_t bytes_to_come() const {
    return std::max<int64_t>(0, planned_bytes() - usage_.cache.resident_bytes);
  }

  // Makes the sequence. Once, before the first step.
  void Start();
  // The next chunk of the prompt. An error, a cancellation or the end of the
  // text ends the task and frees its cache, here and in the Finish methods.
  void Prefill();
  // Whether the prompt is read, so that the next step is a token to decode:
  // last_token() by sequence(), sample_request() from what comes of it, then
  // FinishDecode with the token or the error of either and how long both took
  // for all that were decoded together. The first token is sampled after the
  // last chunk and goes to FinishPrefill.
  bool decoding() const { return prefilled_tokens_ == usage_.prompt_tokens; }
  Sequence* sequence() const { return sequence_.get(); }
  int32_t last_token() const { return last_token_; }
  SampleRequest sample_request() const;
  void FinishPrefill(const absl::StatusOr<int32_t>& token);
  void FinishDecode(const absl::StatusOr<int32_t>& token, double seconds);
  // Ends the task with an error.
  void Fail(const absl::Status& status);

 private:
  absl::Status PrefillChunk();
  // Hands out the text of the new token.
  void EmitToken(int32_t token);
  void ObserveToken();
  void UpdateCacheMetrics();
  void ReleaseSequence();
  void Succeed(FinishReason reason);
  double SecondsSince(int64_t start_micros) const;

  const GenerationRequest request_;
  const std::shared_ptr<EventChannel> channel_;
  const int64_t prefill_chunk_tokens_;
  InferenceMetrics* const metrics_;
  Clock* const clock_;
  const int64_t queued_micros_;
  const SequencePlan plan_;

  std::unique_ptr<Sequence> sequence_;
  StreamDecoder decoder_;
  StopMatcher matcher_;
  GenerationUsage usage_;
  int64_t prefilled_tokens_ = 0;
  int32_t last_token_ = 0;
  int64_t last_token_micros_ = 0;
  int64_t chunk_start_micros_ = 0;  // of the prompt's last chunk so far
  std::optional<absl::StatusOr<GenerationResult>> outcome_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_GENERATION_TASK_H_
