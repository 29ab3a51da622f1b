// SPDX-License-Identifier: Apache-2.0
#include "common/model/merge_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/model/internal/layer_runner.h"
#include "common/weights/adapter_export.h"
#include "common/weights/model_files.h"

namespace sinklora {
namespace {

using internal::LayerRunner;

constexpr int64_t kProbeTokens = 64;
constexpr uint64_t kProbeSeed = 0x70726f6265;
// What rounding to bf16 changes a weight by at most.
constexpr double kRounding = 1.0 / 256;
// An export may differ so many times as much as weights with random errors of
// that size make base and adapter differ, and by what f32 itself does.
constexpr double kAllowed = 3;
constexpr double kFloor = 1e-5;

std::vector<int32_t> ProbeTokens(const LlamaConfig& config) {
  const int64_t tokens = std::min(kProbeTokens, config.max_position_embeddings);
  const CounterRng rng(kProbeSeed, 0);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) {
    ids.push_back(static_cast<int32_t>(rng.Below(
        static_cast<uint64_t>(i), static_cast<uint64_t>(config.vocab_size))));
  }
  return ids;
}

struct Difference {
  double absolute = 0;
  double relative = 0;
};

// The largest over the rows of `want` and `got`. NaN where either is not
// finite.
Difference Compare(std::span<const float> want, std::span<const float> got,
                   int64_t columns) {
  Difference out;
  for (size_t row = 0; row + columns <= want.size(); row += columns) {
    double largest = 0, difference = 0;
    for (size_t i = row; i < row + static_cast<size_t>(columns); ++i) {
      const double apart = std::abs(static_cast<double>(want[i]) - got[i]);
      if (!std::isfinite(apart)) return {NAN, NAN};
      largest = std::max(largest, std::abs(static_cast<double>(want[i])));
      difference = std::max(difference, apart);
    }
    out.absolute = std::max(out.absolute, difference);
    if (difference > 0) {
      out.relative = std::max(out.relative, difference / largest);
    }
  }
  return out;
}

std::vector<float> Minus(std::vector<float> a, std::span<const float> b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

absl::Status Within(const std::string& directory, const std::string& place,
                    double difference, double bound) {
  if (difference <= bound) return absl::OkStatus();  // false for NaN
  return absl::DataLossError(fmt::format(
      "{}: {} differs from that of base and adapter by {:.3g} of its size, "
      "rounding to bf16 explains {:.3g}",
      directory, place, difference, bound));
}

// The adapter with errors of rounding in every factor.
absl::StatusOr<PeftAdapter> WithNoise(const PeftAdapter& adapter) {
  PeftAdapter out = adapter;
  uint64_t stream = uint64_t{1} << 32;  // apart from the base's
  for (auto* group : {&out.lora_b, &out.lora_magnitude, &out.full}) {
    for (auto& [name, tensor] : *group) {
      SL_ASSIGN_OR_RETURN(std::vector<float> values, tensor.ToFloats());
      internal::AddNoise(kRounding, ++stream, &values);
      tensor = HostTensor::FromF32(tensor.shape, values);
    }
  }
  return out;
}

absl::Status CheckSameShape(const ModelFiles& base, const ModelFiles& merged) {
  LlamaConfig a = base.config(), b = merged.config();
  // The one shape that an export may change.
  a.tie_word_embeddings = b.tie_word_embeddings = true;
  if (LlamaTensors(a) == LlamaTensors(b)) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "{} has other tensors than {}", merged.directory(), base.directory()));
}

absl::Status CheckFits(const PeftAdapter& adapter, const ModelFiles& base) {
  const absl::Status fits = CheckAdapter(adapter, base.config());
  if (fits.ok()) return fits;
  return absl::FailedPreconditionError(
      fmt::format("the adapter does not fit {}: {}", base.directory(),
                  std::string(fits.message())));
}

// Three runs over the probe: base and adapter, the same with noise, and the
// export. The latter two run every layer twice: on their own input, for the
// logits, and on that of the first, to compare the layer.
class Comparison {
 public:
  Comparison(std::string directory, const LlamaConfig& config,
             LayerRunner* original, LayerRunner* noisy, LayerRunner* exported)
      : directory_(std::move(directory)),
        config_(config),
        original_(original),
        others_{noisy, exported} {}

  absl::StatusOr<MergeCheck> Run() {
    const std::vector<int32_t> ids = ProbeTokens(config_);
    out_.probe_tokens = static_cast<int64_t>(ids.size());
    SL_ASSIGN_OR_RETURN(x_, original_->Embed(ids));
    for (int i : {0, 1}) {
      SL_ASSIGN_OR_RETURN(y_[i], others_[i]->Embed(ids));
    }
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      SL_RETURN_IF_ERROR(RunLayer(layer));
    }
    SL_RETURN_IF_ERROR(CompareLogits());
    return out_;
  }

 private:
  absl::Status RunLayer(int64_t layer) {
    SL_RETURN_IF_ERROR(original_->LoadLayer(layer));
    SL_ASSIGN_OR_RETURN(std::vector<float> next, original_->RunLayer(x_));
    double differences[2];
    for (int i : {0, 1}) {
      SL_RETURN_IF_ERROR(others_[i]->LoadLayer(layer));
      SL_ASSIGN_OR_RETURN(const std::vector<float> same_input,
                          others_[i]->RunLayer(x_));
      differences[i] =
          Compare(Minus(next, x_), Minus(same_input, x_), config_.hidden_size)
              .relative;
      SL_ASSIGN_OR_RETURN(y_[i], others_[i]->RunLayer(y_[i]));
    }
    x_ = std::move(next);
    const double bound = kAllowed * differences[0] + kFloor;
    SL_RETURN_IF_ERROR(Within(directory_, fmt::format("layer {}", layer),
                              differences[1], bound));
    if (layer == 0 || differences[1] * out_.relative_layer_bound >
                          out_.max_relative_layer_difference * bound) {
      out_.max_relative_layer_difference = differences[1];
      out_.relative_layer_bound = bound;
    }
    return absl::OkStatus();
  }

  absl::Status CompareLogits() {
    SL_ASSIGN_OR_RETURN(const std::vector<float> want, original_->Logits(x_));
    Difference differences[2];
    for (int i : {0, 1}) {
      SL_ASSIGN_OR_RETURN(const std::vector<float> got,
                          others_[i]->Logits(y_[i]));
      differences[i] = Compare(want, got, config_.vocab_size);
    }
    out_.relative_logit_bound = kAllowed * differences[0].relative + kFloor;
    out_.max_abs_logit_difference = differences[1].absolute;
    out_.max_relative_logit_difference = differences[1].relative;
    return Within(directory_, "a logit", differences[1].relative,
                  out_.relative_logit_bound);
  }

  const std::string directory_;
  const LlamaConfig& config_;
  LayerRunner* const original_;
  LayerRunner* const others_[2];  // noisy, exported
  std::vector<float> x_, y_[2];   // residual streams
  MergeCheck out_;
};

absl::Status RefuseExisting(const std::string& directory) {
  if (!FileExists(directory)) return absl::OkStatus();
  return absl::AlreadyExistsError(fmt::format("{} exists already", directory));
}

}  // namespace

absl::StatusOr<MergeCheck> CheckMerge(kernels::Backend* backend,
                                      const std::string& base_directory,
                                      const PeftAdapter& adapter,
                                      const std::string& merged_directory,
                                      const PeftAdapter* merged_adapter) {
  SL_ASSIGN_OR_RETURN(const auto base, ModelFiles::Open(base_directory));
  SL_ASSIGN_OR_RETURN(const auto merged, ModelFiles::Open(merged_directory));
  SL_RETURN_IF_ERROR(CheckSameShape(*base, *merged));
  SL_RETURN_IF_ERROR(CheckFits(adapter, *base));
  if (merged_adapter != nullptr) {
    SL_RETURN_IF_ERROR(CheckFits(*merged_adapter, *merged));
  }
  const auto tokens =
      static_cast<int64_t>(ProbeTokens(merged->config()).size());
  SL_ASSIGN_OR_RETURN(
      const auto original,
      LayerRunner::Create(backend, base.get(), &adapter, tokens));
  SL_ASSIGN_OR_RETURN(const PeftAdapter noisy_adapter, WithNoise(adapter));
  SL_ASSIGN_OR_RETURN(const auto noisy,
                      LayerRunner::Create(backend, base.get(), &noisy_adapter,
                                          tokens, kRounding));
  SL_ASSIGN_OR_RETURN(
      const auto exported,
      LayerRunner::Create(backend, merged.get(), merged_adapter, tokens));
  return Comparison(merged_directory, base->config(), original.get(),
                    noisy.get(), exported.get())
      .Run();
}

absl::StatusOr<MergeCheck> MergeAndCheck(kernels::Backend* backend,
                                         const std::string& base_directory,
                                         const PeftAdapter& adapter,
                                         const std::string& out_directory) {
  SL_RETURN_IF_ERROR(RefuseExisting(out_directory));
  SL_RETURN_IF_ERROR(MergeAdapter(base_directory, adapter, out_directory));
  auto check = CheckMerge(backend, base_directory, adapter, out_directory);
  if (!check.ok()) RemoveAll(out_directory).IgnoreError();
  return check;
}

absl::StatusOr<MergeCheck> SplitAndCheck(
    kernels::Backend* backend, const std::string& base_directory,
    const PeftAdapter& adapter, const std::string& adapter_directory,
    const std::string& base_out_directory) {
  SL_RETURN_IF_ERROR(RefuseExisting(adapter_directory));
  SL_RETURN_IF_ERROR(RefuseExisting(base_out_directory));
  const auto run = [&]() -> absl::StatusOr<MergeCheck> {
    SL_RETURN_IF_ERROR(WriteSplitAdapter(
        base_directory, adapter, adapter_directory, base_out_directory));
    SL_ASSIGN_OR_RETURN(const auto base, ModelFiles::Open(base_out_directory));
    SL_ASSIGN_OR_RETURN(const PeftAdapter split,
                        ReadPeftAdapter(adapter_directory, base->config()));
    return CheckMerge(backend, base_directory, adapter, base_out_directory,
                      &split);
  };
  auto check = run();
  if (!check.ok()) {
    RemoveAll(adapter_directory).IgnoreError();
    RemoveAll(base_out_directory).IgnoreError();
  }
  return check;
}

}  // namespace sinklora
