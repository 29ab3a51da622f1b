// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/trainable.h"

#include <cmath>
#include <utility>

#include "common/base/random.h"
#include "common/base/status.h"

namespace sinklora::internal {
namespace {

// Keeps the draws of initial values apart from other uses of the same seed.
constexpr uint64_t kInitStream = uint64_t{0x494e4954} << 32;

// PEFT's kaiming_uniform(a = sqrt(5)) of a [rank, in] matrix is uniform in
// (-1/sqrt(in), 1/sqrt(in)).
std::vector<float> KaimingUniform(const TrainableSpec& spec, uint64_t seed,
                                  uint64_t ordinal) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(spec.shape[1]));
  const CounterRng rng(seed, kInitStream + ordinal);
  std::vector<float> out(static_cast<size_t>(spec.num_elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>((2.0 * rng.Uniform(i) - 1.0) * bound);
  }
  return out;
}

absl::StatusOr<DeviceTensor> InitialValue(kernels::Backend* backend,
                                          const TrainableSpec& spec,
                                          const ModelFiles& base, uint64_t seed,
                                          uint64_t ordinal) {
  if (spec.init == InitKind::kFromBase) {
    SL_ASSIGN_OR_RETURN(const StoredTensor stored, base.tensor(spec.name));
    return LoadTensor(backend, stored, kernels::DType::kF32);
  }
  SL_ASSIGN_OR_RETURN(
      DeviceTensor out,
      DeviceTensor::Create(backend, kernels::DType::kF32, spec.shape));
  if (spec.init == InitKind::kZero) {
    SL_RETURN_IF_ERROR(Zero(backend, out.view()));
  } else {
    SL_RETURN_IF_ERROR(
        Upload(backend, KaimingUniform(spec, seed, ordinal), out.view()));
  }
  return out;
}

}  // namespace

absl::StatusOr<TrainableSet> TrainableSet::Create(
    kernels::Backend* backend, std::vector<TrainableSpec> specs,
    const ModelFiles& base, uint64_t seed) {
  TrainableSet out;
  out.backend_ = backend;
  for (TrainableSpec& spec : specs) {
    const size_t ordinal = out.tensors_.size();
    Trainable t;
    SL_ASSIGN_OR_RETURN(t.master,
                        InitialValue(backend, spec, base, seed, ordinal));
    for (DeviceTensor* state : {&t.grad, &t.m, &t.v}) {
      SL_ASSIGN_OR_RETURN(
          *state,
          DeviceTensor::Create(backend, kernels::DType::kF32, spec.shape));
      SL_RETURN_IF_ERROR(Zero(backend, state->view()));
    }
    if (spec.bf16_product) {
      SL_ASSIGN_OR_RETURN(
          t.product,
          DeviceTensor::Create(backend, kernels::DType::kBF16, spec.shape));
    }
    if (spec.gradient_of_tokens) {
      for (RowSet* rows : {&t.gradient_rows, &t.moment_rows}) {
        SL_ASSIGN_OR_RETURN(*rows, RowSet::Create(backend, spec.shape[0]));
      }
    }
    out.index_[spec.name] = ordinal;
    t.spec = std::move(spec);
    out.tensors_.push_back(std::move(t));
  }
  SL_RETURN_IF_ERROR(out.RefreshProducts());
  return out;
}

const Trainable* TrainableSet::Find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

int64_t TrainableSet::parameters() const {
  int64_t n = 0;
  for (const Trainable& t : tensors_) n += t.spec.num_elements();
  return n;
}

absl::Status TrainableSet::ZeroGradients() {
  for (Trainable& t : tensors_) {
    if (t.gradient_rows.empty()) {
      SL_RETURN_IF_ERROR(Zero(backend_, t.grad.view()));
      continue;
    }
    SL_RETURN_IF_KERNEL_ERROR(backend_->ZeroRows(
        {.x = t.grad.view(), .rows = t.gradient_rows.view()}));
    t.gradient_rows.Clear();
  }
  return absl::OkStatus();
}

absl::Status TrainableSet::ExpectTokens(std::span<const int32_t> ids) {
  for (Trainable& t : tensors_) {
    if (t.gradient_rows.empty()) continue;
    SL_RETURN_IF_ERROR(t.gradient_rows.Add(ids));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> TrainableSet::GradientNorm() {
  double sum = 0;
  for (const Trainable& t : tensors_) {
    double squares = 0;
    SL_RETURN_IF_KERNEL_ERROR(
        backend_->SumSquares({.x = t.grad.view(),
                              .result = &squares,
                              .rows = t.gradient_rows.view()}));
    sum += squares;
  }
  return std::sqrt(sum);
}

absl::Status TrainableSet::Update(const OptimizerOptions& options, int64_t step,
                                  double learning_rate, double grad_scale) {
  for (Trainable& t : tensors_) {
    kernels::AdamWParams p;
    p.param = t.master.view();
    p.grad = t.grad.view();
    p.m = t.m.view();
    p.v = t.v.view();
    p.step = step;
    p.learning_rate = static_cast<float>(learning_rate);
    p.beta1 = static_cast<float>(options.beta1);
    p.beta2 = static_cast<float>(options.beta2);
    p.eps = static_cast<float>(options.eps);
    p.weight_decay =
        t.spec.weight_decay ? static_cast<float>(options.weight_decay) : 0.0f;
    p.grad_scale = static_cast<float>(grad_scale);
    if (!t.moment_rows.empty()) {
      SL_RETURN_IF_ERROR(t.moment_rows.Add(t.gradient_rows.rows()));
      // Decay moves every row, but moments stay where gradients have been.
      if (p.weight_decay == 0.0f) p.rows = t.moment_rows.view();
    }
    SL_RETURN_IF_KERNEL_ERROR(backend_->AdamW(p));
  }
  return RefreshProducts();
}

absl::Status TrainableSet::StateChanged() {
  for (Trainable& t : tensors_) {
    if (t.moment_rows.empty()) continue;
    t.moment_rows.Clear();
    for (const DeviceTensor* moment : {&t.m, &t.v}) {
      SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                          Download(backend_, moment->view()));
      SL_RETURN_IF_ERROR(
          t.moment_rows.Add(NonzeroRows(values, t.spec.shape[1])));
    }
  }
  return RefreshProducts();
}

absl::Status TrainableSet::RefreshProducts() {
  for (const Trainable& t : tensors_) {
    if (t.product.empty()) continue;
    SL_RETURN_IF_KERNEL_ERROR(
        backend_->Cast({.x = t.master.view(), .out = t.product.view()}));
  }
  return absl::OkStatus();
}

}  // namespace sinklora::internal
