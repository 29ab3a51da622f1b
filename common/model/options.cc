// SPDX-License-Identifier: Apache-2.0
#include "common/model/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "common/base/status.h"
#include "common/model/internal/batch.h"
#include "kernels/collective/collective.h"

namespace sinklora {
namespace {

template <typename T>
absl::Status Check(bool ok, const char* field, const T& value,
                   const std::string& limit) {
  if (ok) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {}, must be {}", field, value, limit));
}

bool Between(double value, double low, double high) {
  return value >= low && value <= high;  // false for NaN
}

absl::Status Validate(const LoraOptions& lora) {
  static constexpr const char* kModules[] = {"q_proj",   "k_proj",    "v_proj",
                                             "o_proj",   "gate_proj", "up_proj",
                                             "down_proj"};
  SL_RETURN_IF_ERROR(Check(lora.rank >= 1 && lora.rank <= 4096, "lora.rank",
                           lora.rank, "in [1, 4096]"));
  SL_RETURN_IF_ERROR(Check(Between(lora.lora_alpha, 1e-6, 1e6),
                           "lora.lora_alpha", lora.lora_alpha,
                           "in [1e-6, 1e6]"));
  SL_RETURN_IF_ERROR(Check(!lora.target_modules.empty(), "lora.target_modules",
                           "empty", "at least one module"));
  std::set<std::string> seen;
  for (const std::string& module : lora.target_modules) {
    const bool known = std::find(std::begin(kModules), std::end(kModules),
                                 module) != std::end(kModules);
    SL_RETURN_IF_ERROR(Check(known, "lora.target_modules", module,
                             "of q_proj, k_proj, v_proj, o_proj, gate_proj, "
                             "up_proj, down_proj"));
    SL_RETURN_IF_ERROR(Check(seen.insert(module).second, "lora.target_modules",
                             module, "named once"));
  }
  return absl::OkStatus();
}

absl::Status Validate(const OptimizerOptions& o) {
  SL_RETURN_IF_ERROR(Check(Between(o.learning_rate, 0, 1),
                           "optimizer.learning_rate", o.learning_rate,
                           "in [0, 1]"));
  SL_RETURN_IF_ERROR(Check(o.warmup_steps >= 0, "optimizer.warmup_steps",
                           o.warmup_steps, ">= 0"));
  SL_RETURN_IF_ERROR(Check(
      Between(o.min_learning_rate, 0, o.learning_rate),
      "optimizer.min_learning_rate", o.min_learning_rate,
      fmt::format("in [0, {}] (optimizer.learning_rate)", o.learning_rate)));
  SL_RETURN_IF_ERROR(Check(Between(o.beta1, 0, 1) && o.beta1 < 1,
                           "optimizer.beta1", o.beta1, "in [0, 1)"));
  SL_RETURN_IF_ERROR(Check(Between(o.beta2, 0, 1) && o.beta2 < 1,
                           "optimizer.beta2", o.beta2, "in [0, 1)"));
  SL_RETURN_IF_ERROR(
      Check(o.eps > 0 && o.eps <= 1, "optimizer.eps", o.eps, "in (0, 1]"));
  SL_RETURN_IF_ERROR(Check(Between(o.weight_decay, 0, 10),
                           "optimizer.weight_decay", o.weight_decay,
                           "in [0, 10]"));
  return Check(Between(o.clip_norm, 0, 1e30), "optimizer.clip_norm",
               o.clip_norm, "finite and >= 0");
}

}  // namespace

absl::Status Validate(const AttentionOptions& o) {
  SL_RETURN_IF_ERROR(Check(o.group_ratio > 0 && o.group_ratio <= 1,
                           "attention.group_ratio", o.group_ratio,
                           "in (0, 1]"));
  SL_RETURN_IF_ERROR(Check(o.group_size_tokens == 0 || o.group_size_tokens >= 2,
                           "attention.group_size_tokens", o.group_size_tokens,
                           "0 or >= 2"));
  SL_RETURN_IF_ERROR(Check(o.full_below_tokens >= 0,
                           "attention.full_below_tokens", o.full_below_tokens,
                           ">= 0"));
  SL_RETURN_IF_ERROR(Check(Between(o.return_ratio, 0, 1),
                           "attention.return_ratio", o.return_ratio,
                           "in [0, 1]"));
  return Check(o.sink_tokens >= 0 && o.sink_tokens <= kMaxContextTokens,
               "attention.sink_tokens", o.sink_tokens,
               fmt::format("in [0, {}]", kMaxContextTokens));
}

int64_t ShiftedHeads(const AttentionOptions& options, int64_t heads) {
  switch (options.pattern) {
    case PatternKind::kFull:
    case PatternKind::kShort:
      return 0;
    case PatternKind::kS2:
    case PatternKind::kS2Sinks:
      return heads / 2;
    case PatternKind::kSegmentReassemble:
    case PatternKind::kSf:
      return std::llround((1.0 - options.return_ratio) *
                          static_cast<double>(heads) / 2.0);
  }
  return 0;
}

int64_t GroupSize(const AttentionOptions& options, int64_t example_tokens) {
  if (options.pattern == PatternKind::kFull) {
    return std::max<int64_t>(1, example_tokens);
  }
  if (options.group_size_tokens > 0) return options.group_size_tokens;
  const double group =
      std::ceil(static_cast<double>(example_tokens) * options.group_ratio);
  return std::max<int64_t>(1, static_cast<int64_t>(group));
}

double LearningRate(const OptimizerOptions& options, int64_t step,
                    int64_t total_steps) {
  if (step < options.warmup_steps) {
    return options.learning_rate * static_cast<double>(step + 1) /
           static_cast<double>(options.warmup_steps);
  }
  if (options.schedule == LrScheduleKind::kConstant) {
    return options.learning_rate;
  }
  const int64_t span = std::max<int64_t>(1, total_steps - options.warmup_steps);
  const double progress =
      std::min(1.0, static_cast<double>(step - options.warmup_steps) /
                        static_cast<double>(span));
  return options.min_learning_rate +
         0.5 * (options.learning_rate - options.min_learning_rate) *
             (1.0 + std::cos(std::numbers::pi * progress));
}

double LoraScale(const LoraOptions& options) {
  const auto rank = static_cast<double>(options.rank);
  return options.lora_alpha / (options.use_rslora ? std::sqrt(rank) : rank);
}

absl::StatusOr<double> RopeFactorFor(const LlamaConfig& base,
                                     int64_t context_tokens) {
  return RopeFactorFor(base, base.context_tokens(), base.rope_factor,
                       context_tokens);
}

absl::StatusOr<double> RopeFactorFor(const LlamaConfig& base,
                                     int64_t tuned_context_tokens,
                                     double tuned_factor,
                                     int64_t context_tokens) {
  const double longer = static_cast<double>(context_tokens) /
                        static_cast<double>(tuned_context_tokens);
  const double factor = tuned_factor * std::max(1.0, longer);
  const absl::Status allowed = CheckRopeFactor(base, factor);
  if (allowed.ok()) return factor;
  return Annotate(allowed, fmt::format("context_tokens {}", context_tokens));
}

namespace {

// Whether parts of a sequence see no more of each other than half a group and
// the sinks, and where they see them.
absl::Status ValidateContextParallel(const TrainingOptions& options,
                                     const LlamaConfig& base) {
  constexpr int64_t kMax = kernels::JoinCollectiveParams::kMaxSize;
  const int64_t size = options.context_parallel;
  SL_RETURN_IF_ERROR(Check(size >= 1 && size <= kMax, "context_parallel", size,
                           fmt::format("in [1, {}]", kMax)));
  if (size == 1) return absl::OkStatus();
  SL_RETURN_IF_ERROR(
      Check(options.attention.pattern != PatternKind::kFull, "context_parallel",
            size, "1 with full attention, whose parts see all of each other"));
  const int64_t sinks = internal::SinkTokens(options.attention);
  const int64_t group = GroupSize(options.attention, options.context_tokens);
  SL_RETURN_IF_ERROR(
      Check(sinks <= group / 2, "attention.sink_tokens", sinks,
            fmt::format("at most {} (half a group of {} tokens) with "
                        "context_parallel {}",
                        group / 2, group, size)));
  return Check(sinks == 0 || base.sliding_window == 0, "context_parallel", size,
               fmt::format("1 with sinks and a model of sliding window {}, "
                           "which would take sinks from some parts",
                           base.sliding_window));
}

}  // namespace

absl::Status Validate(const TrainingOptions& options, const LlamaConfig& base) {
  SL_RETURN_IF_ERROR(Check(options.context_tokens >= 2 &&
                               options.context_tokens <= kMaxContextTokens,
                           "context_tokens", options.context_tokens,
                           fmt::format("in [2, {}]", kMaxContextTokens)));
  SL_RETURN_IF_ERROR(Check(base.max_position_embeddings >= 1,
                           "max_position_embeddings of the base",
                           base.max_position_embeddings, ">= 1"));
  SL_RETURN_IF_ERROR(Check(options.steps >= 1, "steps", options.steps, ">= 1"));
  SL_RETURN_IF_ERROR(Check(options.micro_batch_examples >= 1,
                           "micro_batch_examples", options.micro_batch_examples,
                           ">= 1"));
  SL_RETURN_IF_ERROR(Check(options.accumulation_steps >= 1,
                           "accumulation_steps", options.accumulation_steps,
                           ">= 1"));
  SL_RETURN_IF_ERROR(Check(
      options.matrix_dtype == kernels::DType::kF32 ||
          options.matrix_dtype == kernels::DType::kBF16,
      "matrix_dtype", static_cast<int>(options.matrix_dtype), "f32 or bf16"));
  SL_RETURN_IF_ERROR(RopeFactorFor(base, options.context_tokens).status());
  SL_RETURN_IF_ERROR(Validate(options.attention));
  SL_RETURN_IF_ERROR(ValidateContextParallel(options, base));
  if (!options.full_parameter) SL_RETURN_IF_ERROR(Validate(options.lora));
  return Validate(options.optimizer);
}

}  // namespace sinklora
