// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/training_run_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/model/internal/data_parallel_run.h"

namespace sinklora {

absl::StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::Create(
    kernels::Backend* backend, const ModelFiles& base,
    const TrainingOptions& options) {
  if (options.context_parallel > 1) {
    return internal::ContextDoesNotFit(options, 1);
  }
  return internal::TrainingRunImpl::Create(backend, base, options);
}

absl::StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::Create(
    std::span<kernels::Backend* const> backends, const ModelFiles& base,
    const TrainingOptions& options, const RankPlace& place) {
  if (backends.size() == 1 && !place.spans_processes()) {
    return Create(backends[0], base, options);
  }
  return internal::DataParallelRun::Create(backends, base, options, place);
}

namespace internal {
namespace {

absl::Status NonFinite(const char* reason, const char* what, double value,
                       int64_t step) {
  return MakeError(
      absl::StatusCode::kInternal,
      fmt::format("{} of step {} is {}, must be finite", what, step, value),
      {reason, {{"step", fmt::format("{}", step)}}});
}

absl::Status CheckAll(std::span<const TrainingExample> examples,
                      const LlamaConfig& config, int64_t context_tokens) {
  for (size_t i = 0; i < examples.size(); ++i) {
    SL_RETURN_IF_ERROR(CheckExample(examples[i], static_cast<int64_t>(i),
                                    config.vocab_size, context_tokens));
  }
  return absl::OkStatus();
}

int64_t TotalSupervised(std::span<const TrainingExample> examples) {
  int64_t n = 0;
  for (const TrainingExample& e : examples) n += SupervisedTokens(e);
  return n;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingRunImpl>> TrainingRunImpl::Create(
    kernels::Backend* backend, const ModelFiles& base,
    const TrainingOptions& options) {
  SL_RETURN_IF_ERROR(Validate(options, base.config()));
  std::unique_ptr<TrainingRunImpl> run(
      new TrainingRunImpl(backend, base.config(), options));
  SL_RETURN_IF_ERROR(run->Load(base));
  run->Bind();
  return run;
}

absl::Status TrainingRunImpl::Load(const ModelFiles& base) {
  SL_ASSIGN_OR_RETURN(
      trainables_,
      TrainableSet::Create(backend_, TrainableSpecs(config_, options_), base,
                           options_.seed));
  for (const auto& [name, shape] : LlamaTensors(config_)) {
    if (trainables_.Find(name) != nullptr) continue;
    SL_ASSIGN_OR_RETURN(const StoredTensor stored, base.tensor(name));
    SL_ASSIGN_OR_RETURN(frozen_[name],
                        LoadTensor(backend_, stored,
                                   IsVector(name) ? kernels::DType::kF32
                                                  : options_.matrix_dtype));
  }
  SL_ASSIGN_OR_RETURN(const double rope_factor,
                      RopeFactorFor(config_, options_.context_tokens));
  SL_ASSIGN_OR_RETURN(rope_, RopeTables::Create(backend_, config_, rope_factor,
                                                options_.context_tokens));
  return absl::OkStatus();
}

void TrainingRunImpl::Bind() {
  WeightSource source;
  source.value = [this](const std::string& name) -> kernels::ConstTensorView {
    const Trainable* t = trainables_.Find(name);
    return t != nullptr ? t->master.view() : frozen_.at(name).view();
  };
  source.product = [this, &source](const std::string& name) {
    const Trainable* t = trainables_.Find(name);
    return t != nullptr && !t->product.empty()
               ? kernels::ConstTensorView(t->product.view())
               : source.value(name);
  };
  source.gradient = [this](const std::string& name) {
    const Trainable* t = trainables_.Find(name);
    return t != nullptr ? t->grad.view() : kernels::TensorView();
  };
  source.lora = [this](const std::string& module, LinearWeights* w) {
    const Trainable* a = trainables_.Find(module + kLoraASuffix);
    const Trainable* b = trainables_.Find(module + kLoraBSuffix);
    if (a == nullptr || b == nullptr) return;
    w->lora_a = a->master.view();
    w->lora_b = b->master.view();
    w->dlora_a = a->grad.view();
    w->dlora_b = b->grad.view();
    w->lora_scale = static_cast<float>(LoraScale(options_.lora));
  };
  weights_ = BindWeights(config_, source);
}

absl::StatusOr<double> TrainingRunImpl::MicroStep(
    HostBatch batch, const ContextPlace& place, float loss_scale,
    const Cancellation* cancellation) {
  SL_ASSIGN_OR_RETURN(
      const auto rope,
      rope_.ForDocuments(batch.document_tokens(), &batch.positions));
  Graph graph{backend_, &config_, rope.get(), options_.matrix_dtype};
  if (place.size == 1) {
    return RunPasses(graph, batch, loss_scale, cancellation);
  }
  const std::vector<ContextShard> shards =
      CutBatch(batch.pattern, batch.tokens(), place.size);
  const ContextShard& shard = shards[place.place];
  if (shard.tokens() == 0) return 0.0;
  const ContextLink link{place.collective, &shard, place.first};
  graph.context = &link;
  return RunPasses(graph, TakeShard(batch, shard), loss_scale, cancellation);
}

absl::StatusOr<double> TrainingRunImpl::RunPasses(
    const Graph& graph, const HostBatch& batch, float loss_scale,
    const Cancellation* cancellation) {
  const PassKind kind =
      options_.keep_activations ? PassKind::kKeep : PassKind::kRecompute;
  SL_ASSIGN_OR_RETURN(const PassActivations a,
                      PreparePass(graph, kind, batch, weights_.max_lora_rank,
                                  &arena_, KeptInputsOf(options_)));
  SL_RETURN_IF_ERROR(ForwardPass(graph, weights_, batch, a, cancellation));
  SL_ASSIGN_OR_RETURN(const double nll_sum,
                      LossPass(graph, weights_, a, loss_scale));
  if (!std::isfinite(nll_sum)) {
    return NonFinite("NON_FINITE_LOSS", "loss", nll_sum, step_ + 1);
  }
  SL_RETURN_IF_ERROR(BackwardPass(graph, weights_, batch, a));
  return nll_sum;
}

absl::Status TrainingRunImpl::CheckStep(
    std::span<const TrainingExample> examples) const {
  const auto wanted = static_cast<size_t>(options_.micro_batch_examples) *
                      options_.accumulation_steps;
  if (examples.size() != wanted) {
    return absl::InvalidArgumentError(
        fmt::format("examples of a step are {}, must be {} "
                    "(micro_batch_examples x accumulation_steps)",
                    examples.size(), wanted));
  }
  return CheckAll(examples, config_, options_.context_tokens);
}

absl::StatusOr<double> TrainingRunImpl::AccumulateGradients(
    std::span<const TrainingExample> examples, Share share,
    const ContextPlace& place, const Cancellation* cancellation,
    const std::atomic<bool>* stop) {
  const auto micro = static_cast<size_t>(options_.micro_batch_examples);
  const double supervised = static_cast<double>(TotalSupervised(examples));
  SL_RETURN_IF_ERROR(trainables_.ZeroGradients());
  // Those of the other shares, too: their gradients are added to these.
  for (const TrainingExample& example : examples) {
    SL_RETURN_IF_ERROR(trainables_.ExpectTokens(example.token_ids));
  }
  double nll_sum = 0;
  for (size_t begin = share.rank * micro; begin < examples.size();
       begin += share.size * micro) {
    if ((cancellation != nullptr && cancellation->cancelled()) ||
        (stop != nullptr && *stop)) {
      return absl::CancelledError("cancelled between micro-steps");
    }
    HostBatch batch = BuildBatch(examples.subspan(begin, micro),
                                 options_.attention, config_.num_heads);
    SL_ASSIGN_OR_RETURN(
        const double nll,
        MicroStep(std::move(batch), place, static_cast<float>(1.0 / supervised),
                  cancellation));
    nll_sum += nll;
  }
  return nll_sum;
}

absl::StatusOr<double> TrainingRunImpl::ComputeGradients(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(CheckStep(examples));
  SL_ASSIGN_OR_RETURN(const double nll_sum,
                      AccumulateGradients(examples, Share(), ContextPlace(),
                                          cancellation, nullptr));
  return nll_sum / static_cast<double>(TotalSupervised(examples));
}

absl::StatusOr<double> TrainingRunImpl::GradientNorm() {
  SL_ASSIGN_OR_RETURN(const double norm, trainables_.GradientNorm());
  if (std::isfinite(norm)) return norm;
  return NonFinite("NON_FINITE_GRADIENT", "gradient norm", norm, step_ + 1);
}

absl::StatusOr<StepMetrics> TrainingRunImpl::ApplyGradients(
    std::span<const TrainingExample> examples, double nll_sum,
    double gradient_norm) {
  StepMetrics out;
  out.gradient_norm = gradient_norm;
  const double clip = options_.optimizer.clip_norm;
  const double grad_scale =
      clip > 0 ? std::min(1.0, clip / (gradient_norm + 1e-6)) : 1.0;
  out.learning_rate = LearningRate(options_.optimizer, step_, options_.steps);
  SL_RETURN_IF_ERROR(trainables_.Update(options_.optimizer, step_ + 1,
                                        out.learning_rate, grad_scale));
  out.step = ++step_;
  out.supervised_tokens = TotalSupervised(examples);
  out.loss = nll_sum / static_cast<double>(out.supervised_tokens);
  for (const TrainingExample& e : examples) {
    out.tokens += static_cast<int64_t>(e.token_ids.size());
  }
  return out;
}

absl::StatusOr<StepMetrics> TrainingRunImpl::Step(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(CheckStep(examples));
  SL_ASSIGN_OR_RETURN(const double nll_sum,
                      AccumulateGradients(examples, Share(), ContextPlace(),
                                          cancellation, nullptr));
  SL_ASSIGN_OR_RETURN(const double norm, GradientNorm());
  return ApplyGradients(examples, nll_sum, norm);
}

absl::Status TrainingRunImpl::CheckValidation(
    std::span<const TrainingExample> examples) const {
  if (examples.empty()) {
    return absl::InvalidArgumentError(
        "validation has 0 examples, must be >= 1");
  }
  return CheckAll(examples, config_, options_.context_tokens);
}

absl::StatusOr<double> TrainingRunImpl::ValidationNll(
    const TrainingExample& example, const Cancellation* cancellation) {
  AttentionOptions full;
  full.pattern = PatternKind::kFull;
  HostBatch batch = BuildBatch({&example, 1}, full, config_.num_heads);
  SL_ASSIGN_OR_RETURN(
      const auto rope,
      rope_.ForDocuments(batch.document_tokens(), &batch.positions));
  const Graph graph{backend_, &config_, rope.get(), options_.matrix_dtype};
  SL_ASSIGN_OR_RETURN(const PassActivations a,
                      PreparePass(graph, PassKind::kForward, batch,
                                  weights_.max_lora_rank, &arena_));
  SL_RETURN_IF_ERROR(ForwardPass(graph, weights_, batch, a, cancellation));
  return LossPass(graph, weights_, a, 0.0f);
}

absl::StatusOr<double> TrainingRunImpl::MeanValidationLoss(
    std::span<const TrainingExample> examples,
    std::span<const double> nll) const {
  const double nll_sum = std::accumulate(nll.begin(), nll.end(), 0.0);
  const double loss = nll_sum / static_cast<double>(TotalSupervised(examples));
  if (std::isfinite(loss)) return loss;
  return NonFinite("NON_FINITE_LOSS", "validation loss", loss, step_);
}

absl::StatusOr<double> TrainingRunImpl::ValidationLoss(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(CheckValidation(examples));
  std::vector<double> nll;
  for (const TrainingExample& example : examples) {
    SL_ASSIGN_OR_RETURN(const double of_example,
                        ValidationNll(example, cancellation));
    nll.push_back(of_example);
  }
  return MeanValidationLoss(examples, nll);
}

absl::Status TrainingRunImpl::StateReplaced(int64_t step) {
  step_ = step;
  return trainables_.StateChanged();
}

}  // namespace internal
}  // namespace sinklora
