// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/data_parallel_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "common/base/status.h"

namespace sinklora::internal {
namespace {

absl::Status OutOfStep(const absl::Status& why) {
  return absl::FailedPreconditionError(
      "the devices of this run hold different weights, load a checkpoint: " +
      std::string(why.message()));
}

// A transfer need not be larger than what there is: gradients, and keys and
// values of half a group.
int64_t ChunkElements(const LlamaConfig& config,
                      const TrainingOptions& options) {
  int64_t elements = 0;
  for (const TrainableSpec& spec : TrainableSpecs(config, options)) {
    elements += spec.num_elements();
  }
  if (options.context_parallel > 1) {
    const int64_t group = GroupSize(options.attention, options.context_tokens);
    elements =
        std::max(elements, group * config.num_kv_heads * config.head_dim);
  }
  return std::clamp(elements, int64_t{1},
                    kernels::JoinCollectiveParams::kDefaultChunkElements);
}

// The gradients that are not zero on some rank; the same views on every rank.
std::vector<kernels::TensorView> GradientsOf(const TrainableSet& trainables) {
  std::vector<kernels::TensorView> out;
  for (const Trainable& t : trainables.tensors()) {
    if (t.gradient_rows.empty()) {
      out.push_back(t.grad.view());
      continue;
    }
    // Rows of the tokens of the whole step, which every rank knows.
    for (const auto& [begin, count] : t.gradient_rows.runs()) {
      out.push_back(t.grad.view().Rows(begin, count));
    }
  }
  return out;
}

std::vector<kernels::TensorView> StateOf(const TrainableSet& trainables) {
  std::vector<kernels::TensorView> out;
  for (const Trainable& t : trainables.tensors()) {
    for (const DeviceTensor* part : {&t.master, &t.m, &t.v}) {
      out.push_back(part->view());
    }
  }
  return out;
}

absl::Status CheckPlace(std::span<kernels::Backend* const> backends,
                        const TrainingOptions& options,
                        const RankPlace& place) {
  const auto here = static_cast<int64_t>(backends.size());
  const int64_t size = place.spans_processes() ? place.total : here;
  const int64_t context = options.context_parallel;
  const int64_t most = options.accumulation_steps * context;
  if (here < 1 || size > most) {
    return absl::InvalidArgumentError(
        fmt::format("devices of the run are {}, must be in [1, {}] "
                    "(accumulation_steps{}): each needs a micro-step",
                    size, most, context > 1 ? " x context_parallel" : ""));
  }
  if (size % context != 0) return ContextDoesNotFit(options, size);
  if (!place.spans_processes()) return absl::OkStatus();
  if (place.first < 0 || place.first + here > size || place.id == nullptr ||
      place.abort == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("ranks of this process are [{}, {}), must be in [0, {}), "
                    "and have an id source and an abort",
                    place.first, place.first + here, size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ContextDoesNotFit(const TrainingOptions& options,
                               int64_t devices) {
  return absl::InvalidArgumentError(
      fmt::format("context_parallel is {}, must divide the number of devices "
                  "of the run, {}",
                  options.context_parallel, devices));
}

absl::StatusOr<std::unique_ptr<DataParallelRun>> DataParallelRun::Create(
    std::span<kernels::Backend* const> backends, const ModelFiles& base,
    const TrainingOptions& options, const RankPlace& place) {
  SL_RETURN_IF_ERROR(Validate(options, base.config()));
  SL_RETURN_IF_ERROR(CheckPlace(backends, options, place));
  std::unique_ptr<DataParallelRun> run(
      new DataParallelRun(backends, ChunkElements(base.config(), options),
                          static_cast<int>(options.context_parallel), place));
  // Before the weights, which take long.
  SL_RETURN_IF_ERROR(run->group_.Check());
  SL_RETURN_IF_ERROR(run->group_.Run([&](int local) -> absl::Status {
    SL_ASSIGN_OR_RETURN(run->runs_[local], TrainingRunImpl::Create(
                                               backends[local], base, options));
    return absl::OkStatus();
  }));
  return run;
}

absl::Status DataParallelRun::Agree(const absl::Status& made,
                                    const Cancellation* cancellation,
                                    const std::function<int(size_t)>& owner,
                                    std::span<double> values) {
  if (!group_.spans_processes()) return made;
  const bool cancelled = cancellation != nullptr && cancellation->cancelled();
  if (absl::IsCancelled(made) && !cancelled) {
    return absl::UnavailableError("the group was aborted");
  }
  if (!made.ok() && !absl::IsCancelled(made)) return made;
  // Behind the values, for each rank whether it is to stop.
  std::vector<double> all(values.begin(), values.end());
  all.resize(values.size() + size(), cancelled ? 1 : 0);
  SL_RETURN_IF_ERROR(group_.Share(all, [&](size_t i) {
    return i < values.size() ? owner(i) : static_cast<int>(i - values.size());
  }));
  const auto stops = std::span(all).subspan(values.size());
  if (std::any_of(stops.begin(), stops.end(),
                  [](double x) { return x != 0; })) {
    return absl::CancelledError("a process of the group was cancelled");
  }
  std::copy_n(all.begin(), values.size(), values.begin());
  return absl::OkStatus();
}

absl::StatusOr<double> DataParallelRun::AccumulateGradients(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  std::vector<double> nll(size());  // by rank
  // A rank that stopped in the middle of micro-steps that others are a part of
  // would leave them waiting.
  const bool stops_alone = context_parallel_ == 1 || !group_.spans_processes();
  const auto accumulate = [&](int local,
                              kernels::Collective* collective) -> absl::Status {
    const int rank = group_.RankOf(local);
    const Share share{.rank = rank / context_parallel_,
                      .size = size() / context_parallel_};
    const ContextPlace place{.collective = collective,
                             .first = share.rank * context_parallel_,
                             .place = rank % context_parallel_,
                             .size = context_parallel_};
    SL_ASSIGN_OR_RETURN(
        nll[rank], runs_[local]->AccumulateGradients(
                       examples, share, place,
                       stops_alone ? cancellation : nullptr, group_.stop()));
    return absl::OkStatus();
  };
  // Nothing is exchanged in whole micro-steps, and a group lasts when they
  // fail.
  const absl::Status made =
      context_parallel_ > 1
          ? group_.RunCollective(accumulate)
          : group_.Run([&](int local) { return accumulate(local, nullptr); });
  SL_RETURN_IF_ERROR(Agree(
      made, cancellation, [](size_t i) { return static_cast<int>(i); }, nll));
  return std::accumulate(nll.begin(), nll.end(), 0.0);
}

absl::StatusOr<double> DataParallelRun::SumGradients() {
  SL_RETURN_IF_ERROR(group_.RunCollective(
      [&](int local, kernels::Collective* collective) -> absl::Status {
        SL_RETURN_IF_KERNEL_ERROR(
            collective->AllReduceSum(GradientsOf(runs_[local]->trainables())));
        return ToAbsl(collective->Wait());
      }));
  std::vector<double> norms(size());  // by rank
  SL_RETURN_IF_ERROR(group_.Run([&](int local) -> absl::Status {
    SL_ASSIGN_OR_RETURN(norms[group_.RankOf(local)],
                        runs_[local]->GradientNorm());
    return absl::OkStatus();
  }));
  SL_RETURN_IF_ERROR(
      group_.Share(norms, [](size_t i) { return static_cast<int>(i); }));
  for (const double norm : norms) {
    if (std::bit_cast<uint64_t>(norm) == std::bit_cast<uint64_t>(norms[0])) {
      continue;
    }
    out_of_step_ = OutOfStep(absl::InternalError(fmt::format(
        "gradient norms of step {} are {} and {}, must be equal to the bit",
        step() + 1, norms[0], norm)));
    return out_of_step_;
  }
  return norms[0];
}

absl::StatusOr<StepMetrics> DataParallelRun::ApplyGradients(
    std::span<const TrainingExample> examples, double nll_sum,
    double gradient_norm) {
  std::vector<StepMetrics> metrics(runs_.size());
  const absl::Status updated = group_.Run([&](int local) -> absl::Status {
    SL_ASSIGN_OR_RETURN(metrics[local], runs_[local]->ApplyGradients(
                                            examples, nll_sum, gradient_norm));
    return absl::OkStatus();
  });
  if (updated.ok()) return metrics[0];
  out_of_step_ = OutOfStep(updated);
  return updated;
}

absl::StatusOr<StepMetrics> DataParallelRun::Step(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(out_of_step_);
  SL_RETURN_IF_ERROR(runs_[0]->CheckStep(examples));
  SL_ASSIGN_OR_RETURN(const double nll_sum,
                      AccumulateGradients(examples, cancellation));
  SL_ASSIGN_OR_RETURN(const double norm, SumGradients());
  return ApplyGradients(examples, nll_sum, norm);
}

absl::StatusOr<double> DataParallelRun::ValidationLoss(
    std::span<const TrainingExample> examples,
    const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(out_of_step_);
  SL_RETURN_IF_ERROR(runs_[0]->CheckValidation(examples));
  std::vector<double> nll(examples.size());
  const absl::Status made = group_.Run([&](int local) -> absl::Status {
    for (size_t i = group_.RankOf(local); i < examples.size(); i += size()) {
      if (*group_.stop()) return absl::CancelledError("another rank failed");
      SL_ASSIGN_OR_RETURN(
          nll[i], runs_[local]->ValidationNll(examples[i], cancellation));
    }
    return absl::OkStatus();
  });
  SL_RETURN_IF_ERROR(Agree(
      made, cancellation,
      [&](size_t i) { return static_cast<int>(i % size()); }, nll));
  // In the order of the examples: the bits of one device.
  return runs_[0]->MeanValidationLoss(examples, nll);
}

absl::Status DataParallelRun::SaveCheckpoint(const std::string& directory) {
  SL_RETURN_IF_ERROR(out_of_step_);
  return runs_[0]->SaveCheckpoint(directory);
}

absl::Status DataParallelRun::LoadCheckpoint(const std::string& directory) {
  // Read and checked once: ranks cannot come to different views of the files.
  constexpr double kNone = -1;
  double loaded_step = kNone;
  const bool none = group_.spans_processes() && directory.empty();
  if (has_rank_0() && !none) {
    SL_RETURN_IF_ERROR(runs_[0]->LoadCheckpoint(directory));
    loaded_step = static_cast<double>(step());
  }
  absl::Status shared =
      group_.Share({&loaded_step, 1}, [](size_t) { return 0; });
  if (shared.ok() && loaded_step == kNone) return absl::OkStatus();
  if (shared.ok()) {
    shared = group_.RunCollective(
        [&](int local, kernels::Collective* collective) -> absl::Status {
          SL_RETURN_IF_KERNEL_ERROR(collective->Broadcast(
              StateOf(runs_[local]->trainables()), /*root=*/0));
          SL_RETURN_IF_KERNEL_ERROR(collective->Wait());
          if (group_.RankOf(local) == 0) return absl::OkStatus();
          return runs_[local]->StateReplaced(static_cast<int64_t>(loaded_step));
        });
  }
  out_of_step_ = shared.ok() ? absl::OkStatus() : OutOfStep(shared);
  return shared;
}

absl::Status DataParallelRun::WriteResult(const std::string& base_model_name,
                                          const std::string& base_directory,
                                          const std::string& out_directory) {
  SL_RETURN_IF_ERROR(out_of_step_);
  return runs_[0]->WriteResult(base_model_name, base_directory, out_directory);
}

}  // namespace sinklora::internal
