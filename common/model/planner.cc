// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "common/base/status.h"
#include "common/model/internal/batch.h"
#include "common/model/internal/context_shard.h"
#include "common/model/internal/model_weights.h"
#include "common/model/internal/pass.h"
#include "common/model/internal/rope_table.h"
#include "common/model/internal/trainable.h"
#include "common/model/training_run.h"

namespace sinklora {
namespace {

using internal::TrainableSpec;

int64_t FrozenBytes(const LlamaConfig& base, const TrainingOptions& options,
                    const std::vector<TrainableSpec>& specs) {
  std::map<std::string, bool> trained;
  for (const TrainableSpec& spec : specs) trained[spec.name] = true;
  int64_t bytes = 0;
  for (const auto& [name, shape] : LlamaTensors(base)) {
    if (trained.contains(name)) continue;
    int64_t elements = 1;
    for (const int64_t d : shape) elements *= d;
    bytes += elements * kernels::SizeOf(internal::IsVector(name)
                                            ? kernels::DType::kF32
                                            : options.matrix_dtype);
  }
  return bytes;
}

// Of a rank of those that share the micro-steps, the one that needs most.
int64_t ActivationBytes(const LlamaConfig& base, const TrainingOptions& options,
                        int64_t example_tokens) {
  const internal::PassKind kind = options.keep_activations
                                      ? internal::PassKind::kKeep
                                      : internal::PassKind::kRecompute;
  TrainingExample document;
  document.token_ids.resize(static_cast<size_t>(example_tokens));
  document.supervised.resize(document.token_ids.size());
  document.document_tokens = {example_tokens};
  const std::vector<TrainingExample> examples(
      static_cast<size_t>(options.micro_batch_examples), document);
  const internal::HostBatch batch =
      internal::BuildBatch(examples, options.attention, base.num_heads);
  int64_t bytes = 0;
  for (const internal::ContextShard& shard :
       internal::CutBatch(batch.pattern, batch.tokens(),
                          static_cast<int>(options.context_parallel))) {
    bytes = std::max(
        bytes, internal::PassBytes(
                   base, kind, {shard.tokens(), shard.lead, shard.lent_rows()},
                   options.full_parameter ? 0 : options.lora.rank,
                   internal::KeptInputsOf(options)));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<TrainingPlan> PlanTraining(const LlamaConfig& base,
                                          const TrainingOptions& options,
                                          int64_t example_tokens) {
  SL_RETURN_IF_ERROR(Validate(options, base));
  if (example_tokens < 1 || example_tokens > options.context_tokens) {
    return absl::InvalidArgumentError(
        fmt::format("example_tokens is {}, must be in [1, {}] (context_tokens)",
                    example_tokens, options.context_tokens));
  }
  const std::vector<TrainableSpec> specs =
      internal::TrainableSpecs(base, options);
  TrainingPlan plan;
  SL_ASSIGN_OR_RETURN(plan.rope_factor,
                      RopeFactorFor(base, options.context_tokens));
  plan.group_size_tokens = GroupSize(options.attention, example_tokens);
  plan.shifted_heads = ShiftedHeads(options.attention, base.num_heads);
  plan.sink_tokens = internal::SinkTokens(options.attention);
  // Master, gradient and two moments in f32, and the bf16 copy where one is.
  for (const TrainableSpec& spec : specs) {
    plan.trainable_parameters += spec.num_elements();
    plan.trainable_bytes +=
        spec.num_elements() * (4 * 4 + (spec.bf16_product ? 2 : 0));
    if (spec.gradient_of_tokens) {
      plan.trainable_bytes += 2 * internal::RowSet::SizeBytes(spec.shape[0]);
    }
  }
  plan.weight_bytes = FrozenBytes(base, options, specs) +
                      internal::RopeTables::SizeBytes(
                          base, options.context_tokens,
                          options.micro_batch_examples * example_tokens);
  plan.activation_bytes = ActivationBytes(base, options, example_tokens);
  plan.validation_bytes = internal::PassBytes(
      base, internal::PassKind::kForward, {.tokens = example_tokens},
      options.full_parameter ? 0 : options.lora.rank, {});
  plan.peak_bytes =
      plan.weight_bytes + plan.trainable_bytes + plan.activation_bytes;
  return plan;
}

}  // namespace sinklora
