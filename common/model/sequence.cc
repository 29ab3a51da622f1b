// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/model/internal/sequence_impl.h"

namespace sinklora {

absl::StatusOr<std::unique_ptr<Sequence>> Sequence::Create(
    std::shared_ptr<ServedModel> model, const ResolvedCache& cache,
    int64_t max_tokens, int64_t prompt_tokens) {
  if (max_tokens < 1 || max_tokens > model->context_tokens()) {
    return absl::InvalidArgumentError(
        fmt::format("max_tokens of a sequence is {}, must be in [1, {}] "
                    "(context)",
                    max_tokens, model->context_tokens()));
  }
  if (prompt_tokens < 0 || prompt_tokens > max_tokens) {
    return absl::InvalidArgumentError(
        fmt::format("prompt_tokens of a sequence is {}, must be in [0, {}] "
                    "(max_tokens)",
                    prompt_tokens, max_tokens));
  }
  if (cache.budget_tokens < 1 || cache.recent_tokens < 0 ||
      cache.sink_tokens < 0 ||
      cache.recent_tokens + cache.sink_tokens > cache.budget_tokens) {
    return absl::InvalidArgumentError(fmt::format(
        "cache budget is {} tokens, must be >= 1 and hold {} recent and {} "
        "sink tokens",
        cache.budget_tokens, cache.recent_tokens, cache.sink_tokens));
  }
  auto impl =
      std::static_pointer_cast<internal::ServedModelImpl>(std::move(model));
  SL_ASSIGN_OR_RETURN(auto rope, impl->rope().ForLength(max_tokens));
  return std::make_unique<internal::SequenceImpl>(
      std::move(impl), std::move(rope), cache, max_tokens, prompt_tokens);
}

SequencePlan PlanSequence(const ServedModel& model, const ResolvedCache& cache,
                          int64_t max_tokens, int64_t prompt_tokens) {
  return internal::SequenceImpl::Plan(
      static_cast<const internal::ServedModelImpl&>(model), cache, max_tokens,
      prompt_tokens);
}

namespace internal {

using kernels::DType;
using kernels::TensorView;

namespace {

// Long prompts are fed in pieces of this size to bound the activations; the
// result has the same bits for any size.
constexpr int64_t kPrefillChunkTokens = 256;

}  // namespace

SequenceImpl::SequenceImpl(std::shared_ptr<ServedModelImpl> model,
                           std::shared_ptr<const RopeTable> rope,
                           const ResolvedCache& cache, int64_t max_tokens,
                           int64_t prompt_tokens)
    : model_(std::move(model)),
      rope_(std::move(rope)),
      max_tokens_(max_tokens),
      prompt_tokens_(prompt_tokens > 0 ? prompt_tokens : max_tokens),
      cache_(model_->base().backend(), model_->config(), cache, max_tokens) {}

SequenceImpl::Chunk SequenceImpl::Chunk::Take(const ServedModelImpl& model,
                                              int64_t tokens, bool decodes,
                                              Arena* arena) {
  const LlamaConfig& config = model.config();
  const int64_t max_lora_rank = model.weights().max_lora_rank;
  Chunk out;
  out.ids = arena->Take(DType::kI32, {tokens});
  if (decodes) {
    const int64_t values = config.num_layers * config.num_kv_heads;
    out.positions = arena->Take(DType::kI32, {tokens});
    out.slots = arena->Take(DType::kI32, {tokens, values});
    out.found = arena->Take(DType::kI32, {2 * tokens, values});
  }
  for (TensorView& x : out.residual) {
    x = arena->Take(DType::kF32, {tokens, config.hidden_size});
  }
  out.layer = LayerActivations::Take(config, tokens, arena);
  if (max_lora_rank > 0) {
    out.lora.down = arena->Take(DType::kF32, {tokens, max_lora_rank});
  }
  out.final_input =
      arena->Take(DType::kF32, {decodes ? tokens : 1, config.hidden_size});
  return out;
}

absl::StatusOr<SequenceImpl::Chunk> SequenceImpl::Chunk::Reserve(
    const ServedModelImpl& model, int64_t tokens, bool decodes, Arena* arena) {
  SL_RETURN_IF_ERROR(
      arena->Reserve(model.base().backend(), Bytes(model, tokens, decodes)));
  return Take(model, tokens, decodes, arena);
}

int64_t SequenceImpl::Chunk::Bytes(const ServedModelImpl& model, int64_t tokens,
                                   bool decodes) {
  Arena measuring;
  Take(model, tokens, decodes, &measuring);
  return measuring.used_bytes();
}

SequencePlan SequenceImpl::Plan(const ServedModelImpl& model,
                                const ResolvedCache& cache, int64_t max_tokens,
                                int64_t prompt_tokens) {
  const LlamaConfig& config = model.config();
  const int64_t prompt = prompt_tokens > 0 ? prompt_tokens : max_tokens;
  const int64_t chunk = std::min(prompt, kPrefillChunkTokens);
  const int64_t logits_bytes = config.vocab_size * kernels::SizeOf(DType::kF32);
  const KvCache planned(model.base().backend(), config, cache, max_tokens);
  SequencePlan plan;
  plan.prefill_bytes =
      planned.PlannedBytes(planned.PromptSlots(prompt), chunk) +
      Chunk::Bytes(model, chunk, false) + logits_bytes;
  plan.decode_bytes = planned.PlannedBytes(planned.steady_slots(), 0) +
                      Chunk::Bytes(model, 1, true) + logits_bytes;
  return plan;
}

absl::Status SequenceImpl::CheckTokens(std::span<const int32_t> tokens) const {
  SL_RETURN_IF_ERROR(failure_);
  if (tokens.empty()) {
    return absl::InvalidArgumentError("chunk has 0 tokens, must have >= 1");
  }
  const auto count = static_cast<int64_t>(tokens.size());
  if (count > max_tokens_ - position_) {
    return absl::OutOfRangeError(
        fmt::format("sequence would have {} tokens, must have at most {}",
                    position_ + count, max_tokens_));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < model_->config().vocab_size) continue;
    return absl::InvalidArgumentError(
        fmt::format("token {} is {}, must be in [0, {}) (vocabulary)",
                    position_ + static_cast<int64_t>(i), tokens[i],
                    model_->config().vocab_size));
  }
  return absl::OkStatus();
}

absl::Status SequenceImpl::Settle(const absl::Status& status) {
  if (!status.ok()) failure_ = status;
  return status;
}

absl::Status SequenceImpl::Prefill(std::span<const int32_t> tokens, bool last) {
  if (decoding_) {
    return absl::FailedPreconditionError("prefill of the sequence has ended");
  }
  SL_RETURN_IF_ERROR(CheckTokens(tokens));
  const auto count = static_cast<int64_t>(tokens.size());
  if (count > prompt_tokens_ - position_) {
    return absl::OutOfRangeError(
        fmt::format("prompt would have {} tokens, must have at most {}",
                    position_ + count, prompt_tokens_));
  }
  return Settle(PrefillChunks(tokens, last));
}

absl::Status SequenceImpl::PrefillChunks(std::span<const int32_t> tokens,
                                         bool last) {
  if (position_ == 0) {
    const auto count = static_cast<int64_t>(tokens.size());
    SL_RETURN_IF_ERROR(
        cache_.Reserve(cache_.PromptSlots(last ? count : prompt_tokens_)));
  }
  while (!tokens.empty()) {
    const size_t count = std::min<size_t>(tokens.size(), kPrefillChunkTokens);
    SL_RETURN_IF_ERROR(
        Run(tokens.first(count), last && count == tokens.size()));
    tokens = tokens.subspan(count);
  }
  if (!last) return absl::OkStatus();
  decoding_ = true;
  memory_.arena.Release();  // the next steps need room for one token
  return cache_.EndPrefill();
}

absl::Status SequenceImpl::Run(std::span<const int32_t> tokens,
                               bool want_logits) {
  const LlamaConfig& config = model_->config();
  kernels::Backend* backend = model_->base().backend();
  const auto count = static_cast<int64_t>(tokens.size());
  SL_ASSIGN_OR_RETURN(Chunk chunk,
                      Chunk::Reserve(*model_, count, false, &memory_.arena));
  if (!cache_.has_scores()) chunk.layer.lse = TensorView();

  SL_RETURN_IF_ERROR(cache_.NextChunk(position_, count));
  SL_RETURN_IF_ERROR(Upload(backend, tokens, chunk.ids));
  SL_RETURN_IF_ERROR(LookUpRows(backend, model_->weights().embedding, chunk.ids,
                                chunk.residual[0]));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    SL_RETURN_IF_ERROR(RunLayer(i, chunk));
  }
  position_ += count;
  if (!want_logits) return absl::OkStatus();
  // Not of memory_: who is decoded in a batch has its logits there.
  SL_ASSIGN_OR_RETURN(logits_,
                      LogitsMemory().Take(backend, 1, config.vocab_size));
  return Head(*model_, chunk.residual[config.num_layers % 2].Rows(count - 1, 1),
              chunk, logits_->view());
}

absl::Status SequenceImpl::RunLayer(int64_t index, const Chunk& chunk) {
  // Many tokens at once are bound by multiplication, one by reading weights.
  // The choice follows the phase and never the number of tokens, so that
  // prompts have the same bits in chunks of any size.
  const Graph graph = model_->graph(*rope_, DType::kBF16);
  const LayerWeights& w = model_->weights().layers[index];
  const LayerActivations& a = chunk.layer;
  const TensorView& x = chunk.residual[index % 2];
  const int64_t head_dim = graph.config->head_dim;
  const float scale = AttentionScale(*graph.config);
  const TensorView q = SplitHeads(a.q, head_dim);
  SL_RETURN_IF_ERROR(
      ForwardQkv(graph, w, x, cache_.chunk_positions(), chunk.lora, a));
  SL_RETURN_IF_ERROR(cache_.Write(index, SplitHeads(a.k, head_dim),
                                  SplitHeads(a.v, head_dim)));
  SL_RETURN_IF_KERNEL_ERROR(
      graph.backend->CacheAttention({.q = q,
                                     .position = cache_.chunk_positions(),
                                     .cache = cache_.view(index),
                                     .scale = scale,
                                     .window = graph.config->window(index),
                                     .out = SplitHeads(a.attention, head_dim),
                                     .lse = a.lse,
                                     .product_dtype = graph.product_dtype}));
  if (cache_.has_scores()) {
    SL_RETURN_IF_ERROR(
        cache_.AddScores(index, q, a.lse, scale, graph.product_dtype));
  }
  return ForwardMlp(graph, w, x, chunk.lora, a,
                    chunk.residual[(index + 1) % 2]);
}

absl::Status SequenceImpl::Head(const ServedModelImpl& model,
                                const TensorView& hidden, const Chunk& chunk,
                                const TensorView& logits) {
  const ModelWeights& w = model.weights();
  kernels::Backend* backend = model.base().backend();
  SL_RETURN_IF_KERNEL_ERROR(backend->RmsNormForward(
      {.x = hidden,
       .weight = w.final_norm.weight,
       .eps = static_cast<float>(model.config().rms_norm_eps),
       .out = chunk.final_input,
       .inv_rms = TensorView()}));
  return Multiply(backend, chunk.final_input, w.head, DType::kF32, logits);
}

kernels::ConstTensorView SequenceImpl::device_logits() const {
  if (logits_ == nullptr) return {};
  const TensorView row = logits_->view().Rows(logits_row_, 1);
  return {row.data, row.dtype, {row.shape[1]}};
}

absl::StatusOr<std::vector<float>> SequenceImpl::logits() const {
  if (logits_ == nullptr) {
    return absl::FailedPreconditionError("the sequence has no logits");
  }
  return Download(model_->base().backend(), device_logits());
}

}  // namespace internal
}  // namespace sinklora
