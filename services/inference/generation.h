// A generation as its two sides see it: the request, the events, and the
// bounded channel between the engine thread, which never waits, and the one
// consumer thread, which does.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_GENERATION_H_
#define SINKLORA_SERVICES_INFERENCE_GENERATION_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "common/base/mutex.h"
#include "common/model/options.h"
#include "common/model/sampler.h"
#include "services/inference/served_target.h"
#include "services/inference/wake_signal.h"

namespace sinklora::inference {

// A checked request, see ResolveGeneration.
struct GenerationRequest {
  std::shared_ptr<ServedTarget> target;
  std::vector<int32_t> prompt;  // not empty
  int64_t max_tokens = 0;       // >= 1; prompt + max_tokens <= context
  std::vector<std::string> stop;
  std::vector<int32_t> end_ids;  // tokens that end the text
  SamplingOptions sampling;
  ResolvedCache cache;
  std::shared_ptr<Cancellation> cancellation;  // may be null
  int64_t arrival_micros = 0;                  // monotonic
};

struct GenerationDelta {
  std::string text;  // whole UTF-8 characters
  std::vector<int32_t> token_ids;
};

enum class FinishReason { kStop, kLength };

struct GenerationUsage {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // the end token counts
  CacheUsage cache;
  double time_to_first_token_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

struct GenerationResult {
  FinishReason finish_reason = FinishReason::kLength;
  GenerationUsage usage;
};

// Bounded queue of deltas with an end. Thread-safe.
class EventChannel {
 public:
  // `engine` is signalled when the consumer makes room or goes away.
  EventChannel(size_t capacity, std::shared_ptr<WakeSignal> engine)
      : capacity_(capacity), engine_(std::move(engine)) {}
  ~EventChannel();

  // Producer. The engine does not step a request whose channel is full, so Push
  // never finds it full.
  bool Full() const;
  bool abandoned() const;
  void Push(GenerationDelta delta);
  void Close(absl::StatusOr<GenerationResult> result);  // once, last

  // Consumer. Waits for the next delta; false at the end.
  bool Pop(GenerationDelta* delta);
  // REQUIRES: Pop returned false.
  absl::StatusOr<GenerationResult> result() const;
  void Abandon();

 private:
  const size_t capacity_;
  const std::shared_ptr<WakeSignal> engine_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<GenerationDelta> deltas_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::StatusOr<GenerationResult>> result_
      ABSL_GUARDED_BY(mutex_);
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
};

// The consumer's end. Destroying it before the end stops the generation at its
// next step. Used by one thread.
class Generation {
 public:
  explicit Generation(std::shared_ptr<EventChannel> channel)
      : channel_(std::move(channel)) {}
  ~Generation() { channel_->Abandon(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Waits for the next piece; false when there are no more.
  bool Next(GenerationDelta* delta) { return channel_->Pop(delta); }
  // REQUIRES: Next returned false. kCancelled for a cancelled one.
  absl::StatusOr<GenerationResult> result() const { return channel_->result(); }

 private:
  const std::shared_ptr<EventChannel> channel_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_GENERATION_H_
