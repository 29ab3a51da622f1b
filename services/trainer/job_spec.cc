// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/job_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/weights/llama_config.h"
#include "services/trainer/metrics.h"

namespace sinklora::trainer {
namespace {

using trainer::v1::AttentionConfig;
using trainer::v1::LoraConfig;
using trainer::v1::OptimizerConfig;
using trainer::v1::TrainingSpec;

constexpr int64_t kMaxSteps = 10'000'000;
constexpr int64_t kMaxContextParallel = 64;
constexpr int64_t kMaxWorkers = 64;
constexpr const char* kTargetModules[] = {"q_proj",   "k_proj",    "v_proj",
                                          "o_proj",   "gate_proj", "up_proj",
                                          "down_proj"};
constexpr int kDefaultTargetModules = 4;

template <typename Value>
absl::Status Refuse(const std::string& field, const Value& value,
                    const std::string& allowed) {
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("spec.{} is {}, allowed is {}", field, value, allowed),
      {"INVALID_FIELD",
       {{"field", "spec." + field},
        {"value", fmt::format("{}", value)},
        {"limit", allowed}}});
}

absl::Status CheckRange(const std::string& field, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Refuse(field, value, fmt::format("[{}, {}]", low, high));
}

// `ok` is false for NaN too when the caller writes it as a comparison.
absl::Status CheckReal(const std::string& field, double value, bool ok,
                       const std::string& allowed) {
  if (ok && std::isfinite(value)) return absl::OkStatus();
  return Refuse(field, value, allowed);
}

// An enum value of a newer client is a number we have no meaning for.
absl::Status CheckEnum(const std::string& field, int value, bool known) {
  if (known) return absl::OkStatus();
  return Refuse(field, value, "a value this version knows");
}

bool HasSinks(trainer::v1::AttentionPattern pattern) {
  return pattern == trainer::v1::ATTENTION_PATTERN_SF ||
         pattern == trainer::v1::ATTENTION_PATTERN_S2_SINKS;
}

bool HasReturn(trainer::v1::AttentionPattern pattern) {
  return pattern == trainer::v1::ATTENTION_PATTERN_SF ||
         pattern == trainer::v1::ATTENTION_PATTERN_SEGMENT_REASSEMBLE;
}

absl::Status RefuseWith(const std::string& field, const std::string& value,
                        trainer::v1::AttentionPattern pattern,
                        const std::string& with) {
  return Refuse(field, value,
                fmt::format("only given with {}, not with {}", with,
                            AttentionPattern_Name(pattern)));
}

absl::Status ResolveGroup(AttentionConfig* attention) {
  const auto pattern = attention->pattern();
  const bool grouped = pattern != trainer::v1::ATTENTION_PATTERN_FULL;
  switch (attention->group_case()) {
    case AttentionConfig::GROUP_NOT_SET:
      if (grouped) attention->set_group_ratio(0.25);
      return absl::OkStatus();
    case AttentionConfig::kGroupRatio: {
      const double ratio = attention->group_ratio();
      if (!grouped) {
        return RefuseWith("attention.group_ratio", fmt::format("{}", ratio),
                          pattern, "a grouped pattern");
      }
      return CheckReal("attention.group_ratio", ratio, ratio > 0 && ratio <= 1,
                       "(0, 1]");
    }
    case AttentionConfig::kGroupSizeTokens: {
      const int64_t size = attention->group_size_tokens();
      if (!grouped) {
        return RefuseWith("attention.group_size_tokens", std::to_string(size),
                          pattern, "a grouped pattern");
      }
      return CheckRange("attention.group_size_tokens", size, 2,
                        kMaxContextTokens);
    }
  }
  return absl::OkStatus();
}

absl::Status ResolveAttention(AttentionConfig* attention) {
  SL_RETURN_IF_ERROR(
      CheckEnum("attention.pattern", attention->pattern(),
                trainer::v1::AttentionPattern_IsValid(attention->pattern())));
  if (attention->pattern() == trainer::v1::ATTENTION_PATTERN_UNSPECIFIED) {
    attention->set_pattern(trainer::v1::ATTENTION_PATTERN_SF);
  }
  const auto pattern = attention->pattern();
  SL_RETURN_IF_ERROR(ResolveGroup(attention));

  SL_RETURN_IF_ERROR(CheckRange("attention.full_below_tokens",
                                attention->full_below_tokens(), 0,
                                kMaxContextTokens));
  if (attention->full_below_tokens() > 0 &&
      pattern == trainer::v1::ATTENTION_PATTERN_FULL) {
    return RefuseWith("attention.full_below_tokens",
                      std::to_string(attention->full_below_tokens()), pattern,
                      "a grouped pattern");
  }

  if (attention->has_return_ratio()) {
    const double ratio = attention->return_ratio();
    if (!HasReturn(pattern)) {
      return RefuseWith("attention.return_ratio", fmt::format("{}", ratio),
                        pattern, "SF and SEGMENT_REASSEMBLE");
    }
    SL_RETURN_IF_ERROR(CheckReal("attention.return_ratio", ratio,
                                 ratio >= 0 && ratio <= 1, "[0, 1]"));
  } else if (HasReturn(pattern)) {
    attention->set_return_ratio(0.5);
  }

  if (attention->has_sink_tokens()) {
    if (!HasSinks(pattern)) {
      return RefuseWith("attention.sink_tokens",
                        std::to_string(attention->sink_tokens()), pattern,
                        "SF and S2_SINKS");
    }
    return CheckRange("attention.sink_tokens", attention->sink_tokens(), 1,
                      1024);
  }
  if (HasSinks(pattern)) attention->set_sink_tokens(4);
  return absl::OkStatus();
}

absl::Status ResolveLora(LoraConfig* lora) {
  if (lora->rank() == 0) lora->set_rank(8);
  SL_RETURN_IF_ERROR(CheckRange("lora.rank", lora->rank(), 1, 256));
  if (lora->lora_alpha() == 0) lora->set_lora_alpha(16);
  SL_RETURN_IF_ERROR(CheckReal(
      "lora.lora_alpha", lora->lora_alpha(),
      lora->lora_alpha() >= 1e-6 && lora->lora_alpha() <= 1e6, "[1e-6, 1e6]"));
  if (lora->target_modules().empty()) {
    for (int i = 0; i < kDefaultTargetModules; ++i) {
      lora->add_target_modules(kTargetModules[i]);
    }
  }
  std::set<std::string> seen;
  for (const std::string& module : lora->target_modules()) {
    const bool known =
        std::find(std::begin(kTargetModules), std::end(kTargetModules),
                  module) != std::end(kTargetModules);
    if (!known || !seen.insert(module).second) {
      return Refuse("lora.target_modules", module,
                    "each of q_proj, k_proj, v_proj, o_proj, gate_proj, "
                    "up_proj, down_proj at most once");
    }
  }
  return absl::OkStatus();
}

absl::Status ResolveLearningRate(OptimizerConfig* o) {
  if (o->learning_rate() == 0) o->set_learning_rate(2e-5);
  SL_RETURN_IF_ERROR(
      CheckReal("optimizer.learning_rate", o->learning_rate(),
                o->learning_rate() > 0 && o->learning_rate() <= 1, "(0, 1]"));
  if (!o->has_warmup_steps()) o->set_warmup_steps(20);
  SL_RETURN_IF_ERROR(
      CheckRange("optimizer.warmup_steps", o->warmup_steps(), 0, kMaxSteps));
  SL_RETURN_IF_ERROR(CheckEnum("optimizer.schedule", o->schedule(),
                               trainer::v1::LrSchedule_IsValid(o->schedule())));
  if (o->schedule() == trainer::v1::LR_SCHEDULE_UNSPECIFIED) {
    o->set_schedule(trainer::v1::LR_SCHEDULE_CONSTANT);
  }
  const bool cosine = o->schedule() == trainer::v1::LR_SCHEDULE_COSINE;
  const double minimum = o->min_learning_rate();
  if (!cosine && minimum != 0) {
    return Refuse("optimizer.min_learning_rate", minimum,
                  "only given with LR_SCHEDULE_COSINE");
  }
  return CheckReal("optimizer.min_learning_rate", minimum,
                   minimum >= 0 && minimum <= o->learning_rate(),
                   "[0, learning_rate]");
}

absl::Status ResolveOptimizer(OptimizerConfig* o) {
  SL_RETURN_IF_ERROR(ResolveLearningRate(o));
  if (!o->has_beta1()) o->set_beta1(0.9);
  SL_RETURN_IF_ERROR(CheckReal("optimizer.beta1", o->beta1(),
                               o->beta1() >= 0 && o->beta1() < 1, "[0, 1)"));
  if (!o->has_beta2()) o->set_beta2(0.95);
  SL_RETURN_IF_ERROR(CheckReal("optimizer.beta2", o->beta2(),
                               o->beta2() >= 0 && o->beta2() < 1, "[0, 1)"));
  if (!o->has_eps()) o->set_eps(1e-8);
  SL_RETURN_IF_ERROR(CheckReal("optimizer.eps", o->eps(),
                               o->eps() > 0 && o->eps() <= 1, "(0, 1]"));
  if (!o->has_weight_decay()) o->set_weight_decay(0);
  SL_RETURN_IF_ERROR(
      CheckReal("optimizer.weight_decay", o->weight_decay(),
                o->weight_decay() >= 0 && o->weight_decay() <= 10, "[0, 10]"));
  if (!o->has_clip_norm()) o->set_clip_norm(1);
  return CheckReal("optimizer.clip_norm", o->clip_norm(),
                   o->clip_norm() >= 0 && o->clip_norm() <= 1e30, "[0, 1e30]");
}

// What the model library checks too, once the context is known.
absl::Status ResolveContextParallel(TrainingSpec* spec) {
  if (spec->context_parallel() == 0) spec->set_context_parallel(1);
  SL_RETURN_IF_ERROR(CheckRange("context_parallel", spec->context_parallel(), 1,
                                kMaxContextParallel));
  if (spec->context_parallel() == 1) return absl::OkStatus();
  const AttentionConfig& attention = spec->attention();
  if (attention.pattern() == trainer::v1::ATTENTION_PATTERN_FULL) {
    return RefuseWith("context_parallel",
                      std::to_string(spec->context_parallel()),
                      attention.pattern(), "a grouped pattern");
  }
  if (attention.group_case() != AttentionConfig::kGroupSizeTokens) {
    return absl::OkStatus();
  }
  const int64_t half = attention.group_size_tokens() / 2;
  if (attention.sink_tokens() <= half) return absl::OkStatus();
  return Refuse("attention.sink_tokens", attention.sink_tokens(),
                fmt::format("<= {}, half of group_size_tokens, with "
                            "context_parallel {}",
                            half, spec->context_parallel()));
}

absl::Status ResolveWorkers(TrainingSpec* spec) {
  if (spec->workers() == 0) spec->set_workers(1);
  SL_RETURN_IF_ERROR(CheckRange("workers", spec->workers(), 1, kMaxWorkers));
  const int64_t most =
      int64_t{spec->accumulation_steps()} * spec->context_parallel();
  if (spec->workers() <= most) return absl::OkStatus();
  return Refuse("workers", spec->workers(),
                fmt::format("<= {}, accumulation_steps x context_parallel: "
                            "each worker needs a micro-step or a part of one",
                            most));
}

absl::Status ResolveLoop(TrainingSpec* spec) {
  SL_RETURN_IF_ERROR(CheckRange("steps", spec->steps(), 1, kMaxSteps));
  if (spec->micro_batch_examples() == 0) spec->set_micro_batch_examples(1);
  SL_RETURN_IF_ERROR(CheckRange("micro_batch_examples",
                                spec->micro_batch_examples(), 1, 1024));
  if (spec->accumulation_steps() == 0) spec->set_accumulation_steps(1);
  SL_RETURN_IF_ERROR(
      CheckRange("accumulation_steps", spec->accumulation_steps(), 1, 4096));
  SL_RETURN_IF_ERROR(CheckRange("checkpoint_every_steps",
                                spec->checkpoint_every_steps(), 0, kMaxSteps));
  SL_RETURN_IF_ERROR(CheckRange("validate_every_steps",
                                spec->validate_every_steps(), 0, kMaxSteps));
  if (spec->validation_examples() == 0) spec->set_validation_examples(16);
  return CheckRange("validation_examples", spec->validation_examples(), 1,
                    100'000);
}

}  // namespace

absl::StatusOr<TrainingSpec> ResolveOptions(const TrainingSpec& spec) {
  TrainingSpec resolved = spec;
  SL_RETURN_IF_ERROR(ValidateId("spec.base_model", spec.base_model()));
  SL_RETURN_IF_ERROR(ValidateId("spec.dataset", spec.dataset()));
  SL_RETURN_IF_ERROR(ValidateId("spec.output_name", spec.output_name()));
  if (!spec.resume_job().empty()) {
    SL_RETURN_IF_ERROR(ValidateId("spec.resume_job", spec.resume_job()));
  }
  SL_RETURN_IF_ERROR(CheckEnum("mode", spec.mode(),
                               trainer::v1::TuningMode_IsValid(spec.mode())));
  if (spec.mode() == trainer::v1::TUNING_MODE_UNSPECIFIED) {
    resolved.set_mode(trainer::v1::TUNING_MODE_LORA);
  }
  SL_RETURN_IF_ERROR(CheckRange("context_tokens", spec.context_tokens(), 0,
                                kMaxContextTokens));
  SL_RETURN_IF_ERROR(ResolveAttention(resolved.mutable_attention()));
  if (resolved.mode() == trainer::v1::TUNING_MODE_LORA) {
    SL_RETURN_IF_ERROR(ResolveLora(resolved.mutable_lora()));
  } else if (spec.has_lora()) {
    return Refuse("lora", "given", "only given with TUNING_MODE_LORA");
  }
  SL_RETURN_IF_ERROR(ResolveOptimizer(resolved.mutable_optimizer()));
  SL_RETURN_IF_ERROR(ResolveLoop(&resolved));
  SL_RETURN_IF_ERROR(ResolveContextParallel(&resolved));
  SL_RETURN_IF_ERROR(ResolveWorkers(&resolved));
  SL_RETURN_IF_ERROR(
      CheckEnum("compute_type", spec.compute_type(),
                trainer::v1::ComputeType_IsValid(spec.compute_type())));
  if (spec.compute_type() == trainer::v1::COMPUTE_TYPE_UNSPECIFIED) {
    resolved.set_compute_type(trainer::v1::COMPUTE_TYPE_FLOAT32);
  }
  return resolved;
}

absl::Status ResolveInputs(const registry::v1::Model& base_model,
                           const curator::v1::Dataset& dataset,
                           TrainingSpec* spec) {
  if (base_model.tokenizer_digest() != dataset.tokenizer_digest()) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("dataset {} was made with tokenizer {} (of model {}), but "
                    "base model {} has {}",
                    dataset.name(), dataset.tokenizer_digest(),
                    dataset.recipe().tokenizer_model(), base_model.name(),
                    base_model.tokenizer_digest()),
        {"TOKENIZER_MISMATCH",
         {{"dataset", dataset.name()}, {"model", base_model.name()}}});
  }
  if (dataset.counts().train_examples() < 1) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("dataset {} has no training examples", dataset.name()),
        {"DATASET_EMPTY", {{"dataset", dataset.name()}}});
  }
  if (spec->validate_every_steps() > 0 &&
      dataset.counts().validation_examples() < 1) {
    return Refuse("validate_every_steps", spec->validate_every_steps(),
                  fmt::format("0: dataset {} has no validation examples",
                              dataset.name()));
  }
  const int64_t dataset_tokens = dataset.recipe().context_tokens();
  if (spec->context_tokens() == 0) {
    spec->set_context_tokens(
        std::max(dataset_tokens, base_model.architecture().context_tokens()));
  }
  if (spec->context_tokens() < dataset_tokens) {
    return Refuse("context_tokens", spec->context_tokens(),
                  fmt::format(">= {}, the context of dataset {}",
                              dataset_tokens, dataset.name()));
  }
  return absl::OkStatus();
}

absl::Status CheckResume(const TrainingSpec& spec,
                         const std::string& base_model_digest,
                         const std::string& dataset_digest,
                         const trainer::v1::TrainingJob& previous) {
  const auto refuse = [&](const std::string& why) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("spec.resume_job {}: {}", previous.name(), why),
        {"CANNOT_RESUME", {{"job", previous.name()}}});
  };
  if (previous.state() != trainer::v1::JOB_STATE_CANCELLED &&
      previous.state() != trainer::v1::JOB_STATE_FAILED) {
    return refuse(fmt::format("it is {}, allowed is cancelled or failed",
                              JobStateName(previous.state())));
  }
  if (previous.checkpoint_step() == 0) return refuse("it has no checkpoint");
  if (spec.steps() < previous.checkpoint_step()) {
    return refuse(fmt::format("spec.steps is {}, its last checkpoint is at {}",
                              spec.steps(), previous.checkpoint_step()));
  }
  if (previous.base_model_digest() != base_model_digest ||
      previous.dataset_digest() != dataset_digest) {
    return refuse("its base model or dataset had other content");
  }
  // What may differ is made equal, then the rest must be.
  TrainingSpec before = previous.resolved();
  before.set_steps(spec.steps());
  before.set_output_name(spec.output_name());
  before.set_checkpoint_every_steps(spec.checkpoint_every_steps());
  before.set_validate_every_steps(spec.validate_every_steps());
  before.set_validation_examples(spec.validation_examples());
  before.set_resume_job(spec.resume_job());
  before.set_workers(spec.workers());
  // Of a job from before there was such a thing.
  if (before.context_parallel() == 0) before.set_context_parallel(1);
  if (before.SerializeAsString() == spec.SerializeAsString()) {
    return absl::OkStatus();
  }
  return refuse(
      "only steps, output_name, workers, checkpoint_every_steps, "
      "validate_every_steps and validation_examples may differ from its "
      "spec: " +
      before.ShortDebugString());
}

}  // namespace sinklora::trainer
