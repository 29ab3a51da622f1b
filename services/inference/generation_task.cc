// SPDX-License-Identifier: Apache-2.0
#include "services/inference/generation_task.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/base/status.h"

namespace sinklora::inference {
namespace {

int64_t MaxTokens(const GenerationRequest& request) {
  return static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
}

SequencePlan PlanOf(const GenerationRequest& request) {
  return PlanSequence(*request.target->model, request.cache, MaxTokens(request),
                      static_cast<int64_t>(request.prompt.size()));
}

}  // namespace

GenerationTask::GenerationTask(GenerationRequest request,
                               std::shared_ptr<EventChannel> channel,
                               int64_t prefill_chunk_tokens,
                               InferenceMetrics* metrics, Clock* clock)
    : request_(std::move(request)),
      channel_(std::move(channel)),
      prefill_chunk_tokens_(prefill_chunk_tokens),
      metrics_(metrics),
      clock_(clock),
      queued_micros_(clock->MonotonicMicros()),
      plan_(PlanOf(request_)),
      decoder_(&request_.target->tokenizer()),
      matcher_(request_.stop) {
  request_.target->running_requests.fetch_add(1);
  usage_.prompt_tokens = static_cast<int64_t>(request_.prompt.size());
}

GenerationTask::~GenerationTask() {
  if (!done()) Fail(absl::CancelledError("the generation was dropped"));
  request_.target->running_requests.fetch_sub(1);
  channel_->Close(*std::move(outcome_));
}

bool GenerationTask::Cancelled() const {
  return channel_->abandoned() ||
         (request_.cancellation && request_.cancellation->cancelled());
}

void GenerationTask::Start() {
  metrics_->queue_duration_seconds->Observe(SecondsSince(queued_micros_));
  absl::StatusOr<std::unique_ptr<Sequence>> sequence =
      Sequence::Create(request_.target->model, request_.cache,
                       MaxTokens(request_), usage_.prompt_tokens);
  if (!sequence.ok()) return Fail(sequence.status());
  sequence_ = *std::move(sequence);
  metrics_->policy(request_.cache.policy).generations->Increment();
}

void GenerationTask::Prefill() {
  const absl::Status status = PrefillChunk();
  if (!status.ok()) Fail(status);
}

absl::Status GenerationTask::PrefillChunk() {
  chunk_start_micros_ = clock_->MonotonicMicros();
  const int64_t count =
      std::min(prefill_chunk_tokens_, usage_.prompt_tokens - prefilled_tokens_);
  const bool last = prefilled_tokens_ + count == usage_.prompt_tokens;
  SL_RETURN_IF_ERROR(sequence_->Prefill(
      std::span(request_.prompt).subspan(prefilled_tokens_, count), last));
  prefilled_tokens_ += count;
  metrics_->prompt_tokens->Increment(static_cast<double>(count));
  // The last one ends where its token is there.
  if (!last) usage_.prefill_seconds += SecondsSince(chunk_start_micros_);
  UpdateCacheMetrics();
  return absl::OkStatus();
}

SampleRequest GenerationTask::sample_request() const {
  return {.logits = sequence_->device_logits(),
          .options = request_.sampling,
          .index = usage_.generated_tokens};
}

void GenerationTask::FinishPrefill(const absl::StatusOr<int32_t>& token) {
  if (!token.ok()) return Fail(token.status());
  usage_.prefill_seconds += SecondsSince(chunk_start_micros_);
  EmitToken(*token);
}

void GenerationTask::FinishDecode(const absl::StatusOr<int32_t>& token,
                                  double seconds) {
  if (!token.ok()) return Fail(token.status());
  usage_.decode_seconds += seconds;
  UpdateCacheMetrics();
  EmitToken(*token);
}

void GenerationTask::EmitToken(int32_t token) {
  last_token_ = token;
  ++usage_.generated_tokens;
  ObserveToken();

  const bool ended = std::ranges::find(request_.end_ids, last_token_) !=
                     request_.end_ids.end();
  GenerationDelta delta;
  delta.token_ids = {last_token_};
  // A model may have more rows than its tokenizer has tokens: the rows beyond
  // have no text.
  if (!ended && last_token_ < request_.target->tokenizer().vocab_size()) {
    delta.text = matcher_.Append(decoder_.Append(last_token_));
  }
  const bool full = usage_.generated_tokens == request_.max_tokens;
  if ((ended || full) && !matcher_.stopped()) {
    delta.text += matcher_.Append(decoder_.Finish());
    delta.text += matcher_.Finish();
  }
  channel_->Push(std::move(delta));
  if (ended || matcher_.stopped()) {
    Succeed(FinishReason::kStop);
  } else if (full) {
    Succeed(FinishReason::kLength);
  }
}

void GenerationTask::ObserveToken() {
  const int64_t now_micros = clock_->MonotonicMicros();
  metrics_->generated_tokens->Increment();
  if (usage_.generated_tokens == 1) {
    usage_.time_to_first_token_seconds = SecondsSince(request_.arrival_micros);
    metrics_->time_to_first_token_seconds->Observe(
        usage_.time_to_first_token_seconds);
  } else {
    metrics_->inter_token_latency_seconds->Observe(
        SecondsSince(last_token_micros_));
  }
  last_token_micros_ = now_micros;
}

void GenerationTask::UpdateCacheMetrics() {
  const CacheUsage now = sequence_->usage();
  const CacheUsage& before = usage_.cache;
  const InferenceMetrics::PolicyMetrics& policy =
      metrics_->policy(request_.cache.policy);
  policy.resident_tokens->Add(
      static_cast<double>(now.resident_tokens - before.resident_tokens));
  policy.resident_bytes->Add(
      static_cast<double>(now.resident_bytes - before.resident_bytes));
  policy.evicted_tokens->Increment(
      static_cast<double>(now.evicted_tokens - before.evicted_tokens));
  usage_.cache = now;
}

void GenerationTask::ReleaseSequence() {
  if (sequence_ == nullptr) return;
  const InferenceMetrics::PolicyMetrics& policy =
      metrics_->policy(request_.cache.policy);
  policy.resident_tokens->Add(
      -static_cast<double>(usage_.cache.resident_tokens));
  policy.resident_bytes->Add(-static_cast<double>(usage_.cache.resident_bytes));
  if (sequence_->position() > 0) {
    metrics_->kv_resident_ratio->Observe(
        static_cast<double>(usage_.cache.resident_tokens) /
        static_cast<double>(sequence_->position()));
  }
  if (usage_.cache.evicted_tokens > 0 &&
      request_.cache.policy == CachePolicyKind::kH2o) {
    // A sequence that failed may have no scores to read.
    const absl::StatusOr<double> ratio = sequence_->RetainedAttentionRatio();
    if (ratio.ok()) metrics_->kv_retained_attention_mass_ratio->Observe(*ratio);
  }
  sequence_.reset();
}

void GenerationTask::Succeed(FinishReason reason) {
  ReleaseSequence();
  metrics_
      ->finished(reason == FinishReason::kStop ? EndReason::kStop
                                               : EndReason::kLength)
      ->Increment();
  outcome_ = GenerationResult{reason, usage_};
}

void GenerationTask::Fail(const absl::Status& status) {
  ReleaseSequence();
  const bool cancelled = absl::IsCancelled(status);
  metrics_->finished(cancelled ? EndReason::kCancelled : EndReason::kError)
      ->Increment();
  if (GetErrorDetail(status).reason == "SCORE_INVARIANT") {
    metrics_->score_errors->Increment();
  }
  outcome_ = status;
}

double GenerationTask::SecondsSince(int64_t start_micros) const {
  return static_cast<double>(clock_->MonotonicMicros() - start_micros) * 1e-6;
}

}  // namespace sinklora::inference
