// Options of a training run and of a serving cache, with every default, and how
// they resolve to numbers. Plain values: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_OPTIONS_H_
#define SINKLORA_COMMON_MODEL_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/weights/llama_config.h"
#include "kernels/attention/attention.h"
#include "kernels/tensor.h"

namespace sinklora {

enum class PatternKind {
  kFull,
  kShort,
  kS2,
  kS2Sinks,
  kSegmentReassemble,
  kSf,
};

// Attention while training. Source: algorithms of SinkLoRA section 3 and
// LongLoRA section 3.2.
struct AttentionOptions {
  PatternKind pattern = PatternKind::kSf;
  double group_ratio = 0.25;      // G = ceil(example tokens * ratio); used when
                                  // group_size_tokens is 0
  int64_t group_size_tokens = 0;  // fixed G, >= 2
  int64_t full_below_tokens = 0;  // shorter documents use full attention
  double return_ratio = 0.5;      // kSf, kSegmentReassemble
  int64_t sink_tokens = 4;        // kSf, kS2Sinks
};
// kInvalidArgument naming the field, the value and the limit.
absl::Status Validate(const AttentionOptions& options);
// Heads that stay shifted, of `heads`: round((1 - return_ratio) * heads / 2)
// for S&R and SF, heads / 2 for S2, else 0.
int64_t ShiftedHeads(const AttentionOptions& options, int64_t heads);
// Group size for an example of `example_tokens`.
int64_t GroupSize(const AttentionOptions& options, int64_t example_tokens);

struct LoraOptions {
  int64_t rank = 8;
  double lora_alpha = 16;
  bool use_rslora = false;  // scale = lora_alpha / sqrt(rank), not / rank
  std::vector<std::string> target_modules = {"q_proj", "k_proj", "v_proj",
                                             "o_proj"};
  bool freeze_embedding_and_norms = false;
};

enum class LrScheduleKind { kConstant, kCosine };

struct OptimizerOptions {
  double learning_rate = 2e-5;
  int64_t warmup_steps = 20;
  LrScheduleKind schedule = LrScheduleKind::kConstant;
  double min_learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;  // not applied to norms and embeddings
  double clip_norm = 1.0;   // 0: no clipping
};
// Learning rate of optimizer step `step` in [0, total_steps): linear warm-up
// from peak / warmup_steps, then the schedule.
double LearningRate(const OptimizerOptions& options, int64_t step,
                    int64_t total_steps);

struct TrainingOptions {
  bool full_parameter = false;
  int64_t context_tokens = 0;  // required; decides the RoPE factor
  AttentionOptions attention;
  LoraOptions lora;  // LoRA mode
  OptimizerOptions optimizer;
  int64_t steps = 0;  // required: optimizer steps of the whole run
  int64_t micro_batch_examples = 1;
  int64_t accumulation_steps = 1;
  uint64_t seed = 0;
  bool keep_activations = false;
  // Devices that one batch is cut over, 1 for none: they exchange what groups
  // of tokens see across a cut. Not with full attention, nor with more sinks
  // than half a group of a whole context has tokens.
  int64_t context_parallel = 1;
  // Of frozen weights and of the operands of matrix products, those of
  // attention included.
  kernels::DType matrix_dtype = kernels::DType::kF32;
};
absl::Status Validate(const TrainingOptions& options, const LlamaConfig& base);
// What the low-rank product is multiplied with.
double LoraScale(const LoraOptions& options);
// RoPE factor for serving or tuning `base` at `context_tokens`: the base's own
// when the context is not longer, else that times how much longer it is, for
// the base's own kind of scaling. kInvalidArgument naming the reason when that
// kind cannot be extended (CheckRopeFactor).
absl::StatusOr<double> RopeFactorFor(const LlamaConfig& base,
                                     int64_t context_tokens);
// The same for weights that were tuned at another context and factor than the
// base's, by an adapter.
absl::StatusOr<double> RopeFactorFor(const LlamaConfig& base,
                                     int64_t tuned_context_tokens,
                                     double tuned_factor,
                                     int64_t context_tokens);

enum class CachePolicyKind { kFull, kSlidingWindow, kStreamingLlm, kH2o };

// How keys and values are stored. kInt8: one scale a token and kv head, for
// keys and values each (kernels/cache_attention). Scores are f32 always.
enum class CacheStorage { kFloat32, kBfloat16, kInt8 };

// "float32", "bfloat16" or "int8".
absl::StatusOr<CacheStorage> ParseCacheStorage(std::string_view name);

struct CacheOptions {
  CachePolicyKind policy = CachePolicyKind::kFull;
  // Exactly one of the three for every policy but kFull.
  std::optional<int64_t> budget_tokens;
  std::optional<double> prompt_ratio;
  std::optional<double> context_ratio;
  std::optional<int64_t> recent_tokens;  // kH2o
  std::optional<int64_t> sink_tokens;    // kH2o, kStreamingLlm
  std::optional<CacheStorage> storage;   // default: the model's own
};

// Every number resolved: budget = sink + heavy + recent.
struct ResolvedCache {
  CachePolicyKind policy = CachePolicyKind::kFull;
  int64_t budget_tokens = 0;
  int64_t recent_tokens = 0;
  int64_t sink_tokens = 0;
  int64_t heavy_tokens = 0;
  CacheStorage storage = CacheStorage::kFloat32;
};
// kInvalidArgument naming the field, the value and the limit: budget < 1,
// recent outside [0, budget), sinks outside [0, budget - recent], ratio outside
// (0, 1], a field the policy does not have. A ratio rounds to at least 1.
// `own_storage`: ServedModel::own_cache_storage().
absl::StatusOr<ResolvedCache> Resolve(const CacheOptions& options,
                                      int64_t prompt_tokens,
                                      int64_t context_tokens,
                                      CacheStorage own_storage);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_OPTIONS_H_
