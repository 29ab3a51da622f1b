// SPDX-License-Identifier: Apache-2.0
#include "common/model/merge_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
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
// The largest of many values, in root mean squares of them.
constexpr double kLargest = 4;

// Of what two models compute from the same input.
double LayerBound() {
  const double rounding = std::ldexp(1.0, -8) / std::sqrt(3.0);
  return kLargest * 4 * rounding;
}

double LogitBound(int64_t layers) {
  return LayerBound() * std::sqrt(static_cast<double>(2 * layers + 2));
}

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

// Both models over the probe. Every layer of the merged one runs twice: on its
// own input, for the logits, and on the other model's, to compare the layer.
absl::StatusOr<MergeCheck> RunBoth(const ModelFiles& merged_files,
                                   LayerRunner* original, LayerRunner* merged) {
  const LlamaConfig& config = merged_files.config();
  const std::vector<int32_t> ids = ProbeTokens(config);
  MergeCheck out;
  out.probe_tokens = static_cast<int64_t>(ids.size());
  out.relative_layer_bound = LayerBound();
  out.relative_logit_bound = LogitBound(config.num_layers);
  SL_ASSIGN_OR_RETURN(std::vector<float> x, original->Embed(ids));
  SL_ASSIGN_OR_RETURN(std::vector<float> y, merged->Embed(ids));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    SL_RETURN_IF_ERROR(original->LoadLayer(layer));
    SL_RETURN_IF_ERROR(merged->LoadLayer(layer));
    SL_ASSIGN_OR_RETURN(std::vector<float> next, original->RunLayer(x));
    SL_ASSIGN_OR_RETURN(const std::vector<float> same_input,
                        merged->RunLayer(x));
    const Difference difference =
        Compare(Minus(next, x), Minus(same_input, x), config.hidden_size);
    SL_RETURN_IF_ERROR(Within(merged_files.directory(),
                              fmt::format("layer {}", layer),
                              difference.relative, out.relative_layer_bound));
    out.max_relative_layer_difference =
        std::max(out.max_relative_layer_difference, difference.relative);
    SL_ASSIGN_OR_RETURN(y, merged->RunLayer(y));
    x = std::move(next);
  }
  SL_ASSIGN_OR_RETURN(const std::vector<float> want, original->Logits(x));
  SL_ASSIGN_OR_RETURN(const std::vector<float> got, merged->Logits(y));
  const Difference difference = Compare(want, got, config.vocab_size);
  SL_RETURN_IF_ERROR(Within(merged_files.directory(), "a logit",
                            difference.relative, out.relative_logit_bound));
  out.max_abs_logit_difference = difference.absolute;
  out.max_relative_logit_difference = difference.relative;
  return out;
}

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
  SL_ASSIGN_OR_RETURN(
      const auto exported,
      LayerRunner::Create(backend, merged.get(), merged_adapter, tokens));
  return RunBoth(*merged, original.get(), exported.get());
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
