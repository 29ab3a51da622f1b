// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "common/model/internal/pass.h"
#include "common/model/internal/served_model_impl.h"

namespace sinklora {
namespace {}  // namespace

absl::StatusOr<std::shared_ptr<ServedModel>> ServedModel::Create(
    std::shared_ptr<BaseWeights> weights, const PeftAdapter* adapter,
    int64_t context_tokens) {
  auto base =
      std::static_pointer_cast<internal::BaseWeightsImpl>(std::move(weights));
  const LlamaConfig& config = base->config();
  // What the weights were trained for: the adapter's where it says, else the
  // base's. Only a longer context than that scales RoPE further.
  int64_t own_context = config.context_tokens();
  double own_factor = config.rope_factor;
  if (adapter != nullptr && adapter->context_tokens > 0) {
    own_context = adapter->context_tokens;
    own_factor = adapter->rope_factor;
  }
  const int64_t context = context_tokens == 0 ? own_context : context_tokens;
  if (context < 1 || context > kMaxContextTokens) {
    return absl::InvalidArgumentError(
        fmt::format("context_tokens is {}, must be in [1, {}]", context,
                    kMaxContextTokens));
  }
  SL_ASSIGN_OR_RETURN(const double factor,
                      RopeFactorFor(config, own_context, own_factor, context));
  auto out = std::make_shared<internal::ServedModelImpl>(std::move(base),
                                                         context, factor);
  SL_RETURN_IF_ERROR(out->Init(adapter));
  return out;
}

namespace internal {

absl::Status ServedModelImpl::Init(const PeftAdapter* adapter) {
  const LlamaConfig& config = base_->config();
  SL_ASSIGN_OR_RETURN(rope_, RopeTables::Create(base_->backend(), config,
                                                rope_factor_, context_tokens_));
  extra_bytes_ =
      RopeTables::SizeBytes(config, context_tokens_, context_tokens_);
  const BaseTensorFinder base = [this](const std::string& name) {
    return base_->tensor(name);
  };
  if (adapter != nullptr) {
    SL_ASSIGN_OR_RETURN(adapter_,
                        AdapterWeights::Load(base_->backend(), *adapter,
                                             base_->dense_dtype(), "", base));
  }
  extra_bytes_ += adapter_.size_bytes();
  weights_ = BindWeights(config, adapter_.Bind(base));
  adapter_.BindHead(config, base, &weights_);
  return absl::OkStatus();
}

absl::Status ServedModelImpl::CheckScore(std::span<const int32_t> token_ids,
                                         int64_t score_from) const {
  const auto tokens = static_cast<int64_t>(token_ids.size());
  if (tokens < 2 || tokens > context_tokens_) {
    return absl::InvalidArgumentError(
        fmt::format("token_ids has {} tokens, must have in [2, {}] (context)",
                    tokens, context_tokens_));
  }
  if (score_from < 1 || score_from >= tokens) {
    return absl::InvalidArgumentError(
        fmt::format("score_from is {}, must be in [1, {}) (the tokens)",
                    score_from, tokens));
  }
  for (int64_t i = 0; i < tokens; ++i) {
    if (token_ids[i] >= 0 && token_ids[i] < config().vocab_size) continue;
    return absl::InvalidArgumentError(
        fmt::format("token_ids[{}] is {}, must be in [0, {}) (vocabulary)", i,
                    token_ids[i], config().vocab_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<ServedModel::ScoreResult> ServedModelImpl::Score(
    std::span<const int32_t> token_ids, int64_t score_from,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(CheckScore(token_ids, score_from));
  const auto tokens = static_cast<int64_t>(token_ids.size());
  HostBatch batch;
  batch.ids.assign(token_ids.begin(), token_ids.end());
  batch.labels.assign(tokens, -1);
  for (int64_t i = 0; i < tokens; ++i) {
    batch.positions.push_back(static_cast<int32_t>(i));
    if (i >= score_from) batch.labels[i - 1] = token_ids[i];
  }
  batch.pattern.segments = {{0, tokens, tokens}};
  SL_ASSIGN_OR_RETURN(const auto rope, rope_.ForLength(tokens));
  const Graph graph = this->graph(*rope, kernels::DType::kBF16);
  Arena arena;
  SL_ASSIGN_OR_RETURN(const PassActivations a,
                      PreparePass(graph, PassKind::kForward, batch,
                                  weights_.max_lora_rank, &arena));
  SL_RETURN_IF_ERROR(ForwardPass(graph, weights_, batch, a, cancellation));
  ScoreResult out;
  SL_ASSIGN_OR_RETURN(out.nll_sum, LossPass(graph, weights_, a, 0.0f));
  if (!std::isfinite(out.nll_sum)) {
    return MakeError(
        absl::StatusCode::kInternal,
        fmt::format("negative log-likelihood is {}, must be finite",
                    out.nll_sum),
        {"NON_FINITE_LOGITS", {}});
  }
  SL_ASSIGN_OR_RETURN(const std::vector<float> nll,
                      Download(base_->backend(), a.nll));
  out.nll.assign(nll.begin() + (score_from - 1), nll.end() - 1);
  out.scored_tokens = static_cast<int64_t>(out.nll.size());
  return out;
}

}  // namespace internal
}  // namespace sinklora
