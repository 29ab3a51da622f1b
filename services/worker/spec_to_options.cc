// SPDX-License-Identifier: Apache-2.0
#include "services/worker/spec_to_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "common/base/status.h"

namespace sinklora::worker {
namespace {

absl::StatusOr<PatternKind> ToPatternKind(
    trainer::v1::AttentionPattern pattern) {
  switch (pattern) {
    case trainer::v1::ATTENTION_PATTERN_FULL:
      return PatternKind::kFull;
    case trainer::v1::ATTENTION_PATTERN_SHORT:
      return PatternKind::kShort;
    case trainer::v1::ATTENTION_PATTERN_S2:
      return PatternKind::kS2;
    case trainer::v1::ATTENTION_PATTERN_S2_SINKS:
      return PatternKind::kS2Sinks;
    case trainer::v1::ATTENTION_PATTERN_SEGMENT_REASSEMBLE:
      return PatternKind::kSegmentReassemble;
    case trainer::v1::ATTENTION_PATTERN_SF:
      return PatternKind::kSf;
    default:
      return absl::InvalidArgumentError(
          fmt::format("spec.attention.pattern is {}, which this worker does "
                      "not know",
                      static_cast<int>(pattern)));
  }
}

absl::StatusOr<AttentionOptions> ToAttention(
    const trainer::v1::AttentionConfig& config) {
  AttentionOptions options;
  SL_ASSIGN_OR_RETURN(options.pattern, ToPatternKind(config.pattern()));
  if (config.has_group_ratio()) options.group_ratio = config.group_ratio();
  options.group_size_tokens = config.group_size_tokens();
  options.full_below_tokens = config.full_below_tokens();
  if (config.has_return_ratio()) options.return_ratio = config.return_ratio();
  if (config.has_sink_tokens()) options.sink_tokens = config.sink_tokens();
  return options;
}

LoraOptions ToLora(const trainer::v1::LoraConfig& config) {
  LoraOptions options;
  options.rank = config.rank();
  options.lora_alpha = config.lora_alpha();
  options.use_rslora = config.use_rslora();
  options.target_modules.assign(config.target_modules().begin(),
                                config.target_modules().end());
  options.freeze_embedding_and_norms = config.freeze_embedding_and_norms();
  return options;
}

OptimizerOptions ToOptimizer(const trainer::v1::OptimizerConfig& config) {
  OptimizerOptions options;
  options.learning_rate = config.learning_rate();
  options.warmup_steps = config.warmup_steps();
  options.schedule = config.schedule() == trainer::v1::LR_SCHEDULE_COSINE
                         ? LrScheduleKind::kCosine
                         : LrScheduleKind::kConstant;
  options.min_learning_rate = config.min_learning_rate();
  options.beta1 = config.beta1();
  options.beta2 = config.beta2();
  options.eps = config.eps();
  options.weight_decay = config.weight_decay();
  options.clip_norm = config.clip_norm();
  return options;
}

}  // namespace

absl::StatusOr<TrainingOptions> ToTrainingOptions(
    const trainer::v1::TrainingSpec& spec) {
  TrainingOptions options;
  options.full_parameter = spec.mode() == trainer::v1::TUNING_MODE_FULL;
  options.context_tokens = spec.context_tokens();
  SL_ASSIGN_OR_RETURN(options.attention, ToAttention(spec.attention()));
  if (!options.full_parameter) options.lora = ToLora(spec.lora());
  options.optimizer = ToOptimizer(spec.optimizer());
  options.steps = spec.steps();
  options.micro_batch_examples = spec.micro_batch_examples();
  options.accumulation_steps = spec.accumulation_steps();
  options.seed = spec.seed();
  options.keep_activations = spec.keep_activations();
  // 0 in jobs from before there was such a thing.
  options.context_parallel = std::max(1, spec.context_parallel());
  options.matrix_dtype =
      spec.compute_type() == trainer::v1::COMPUTE_TYPE_BFLOAT16
          ? kernels::DType::kBF16
          : kernels::DType::kF32;
  return options;
}

trainer::v1::ResolvedPlan ToResolvedPlan(
    const TrainingPlan& plan, const std::vector<std::string>& backends,
    int devices) {
  trainer::v1::ResolvedPlan resolved;
  resolved.set_rope_factor(plan.rope_factor);
  resolved.set_group_size_tokens(plan.group_size_tokens);
  resolved.set_shifted_heads(static_cast<int32_t>(plan.shifted_heads));
  resolved.set_sink_tokens(plan.sink_tokens);
  resolved.set_trainable_parameters(plan.trainable_parameters);
  resolved.set_predicted_peak_bytes(plan.peak_bytes);
  resolved.set_backend(fmt::format("{}", fmt::join(backends, "; ")));
  resolved.set_devices(devices);
  return resolved;
}

absl::StatusOr<TrainingExample> ToTrainingExample(
    const curator::v1::Example& example) {
  const size_t tokens = static_cast<size_t>(example.token_ids_size());
  const int64_t document_tokens =
      std::accumulate(example.document_tokens().begin(),
                      example.document_tokens().end(), int64_t{0});
  if (tokens == 0 || example.supervised().size() != tokens ||
      document_tokens != static_cast<int64_t>(tokens)) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        fmt::format("example has {} tokens, {} supervision marks and "
                    "documents of {} tokens in all; they must be equal and "
                    "more than 0",
                    tokens, example.supervised().size(), document_tokens),
        {"INVALID_EXAMPLE", {}});
  }
  TrainingExample out;
  out.token_ids.assign(example.token_ids().begin(), example.token_ids().end());
  out.supervised.assign(example.supervised().begin(),
                        example.supervised().end());
  out.document_tokens.assign(example.document_tokens().begin(),
                             example.document_tokens().end());
  return out;
}

}  // namespace sinklora::worker
