// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <memory>

#include "common/base/status.h"
#include "common/model/training_run.h"
#include "tests/bench/memory.h"
#include "tests/bench/step_bench.h"

namespace sinklora::bench {
namespace {

absl::StatusOr<PatternKind> ParsePattern(const std::string& name) {
  static const auto& kinds = *new std::map<std::string, PatternKind>{
      {"full", PatternKind::kFull},
      {"short", PatternKind::kShort},
      {"s2", PatternKind::kS2},
      {"s2_sinks", PatternKind::kS2Sinks},
      {"sr", PatternKind::kSegmentReassemble},
      {"sf", PatternKind::kSf}};
  const auto it = kinds.find(name);
  if (it != kinds.end()) return it->second;
  return absl::InvalidArgumentError(fmt::format(
      "--pattern is {}, must be full, short, s2, s2_sinks, sr or sf", name));
}

absl::StatusOr<TrainingOptions> OptionsOf(const TrainBench& o,
                                          const LlamaConfig& config) {
  TrainingOptions out;
  out.full_parameter = o.full_parameter;
  out.context_tokens = config.context_tokens();
  SL_ASSIGN_OR_RETURN(out.attention.pattern, ParsePattern(o.pattern));
  out.attention.group_ratio = o.group_ratio;
  out.lora.rank = o.lora_rank;
  if (o.all_linear) {
    out.lora.target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                               "gate_proj", "up_proj", "down_proj"};
  }
  out.lora.freeze_embedding_and_norms = o.freeze_embedding_and_norms;
  out.steps = o.steps + 1;
  out.micro_batch_examples = o.batch;
  out.keep_activations = o.keep_activations;
  out.matrix_dtype = o.dtype;
  return out;
}

std::vector<TrainingExample> Examples(const TrainBench& o,
                                      const LlamaConfig& config,
                                      uint64_t step) {
  std::vector<TrainingExample> out(static_cast<size_t>(o.batch));
  const int64_t tokens = config.context_tokens();
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].token_ids = RandomTokens(tokens, config.vocab_size, step * 1000 + i);
    out[i].supervised.assign(static_cast<size_t>(tokens), 1);
    out[i].document_tokens = {tokens};
  }
  return out;
}

// FLOPs of one optimizer step.
struct StepFlops {
  double model = 0;  // what the mathematics asks for
  double done = 0;   // and the forward pass of the layers again
};

StepFlops FlopsOf(const TrainBench& o, const BenchModel& model,
                  const TrainingPlan& plan) {
  const LlamaConfig& c = model.config();
  const int64_t context = c.context_tokens();
  const auto tokens = static_cast<double>(o.batch * context);
  const auto layers = static_cast<double>(model.layer_matrix_parameters());
  const auto head = static_cast<double>(model.head_parameters());
  kernels::AttentionPattern pattern;
  pattern.segments = {{0, context, plan.group_size_tokens}};
  pattern.shifted_heads = plan.shifted_heads;
  pattern.sink_tokens = plan.sink_tokens;
  const double pairs = static_cast<double>(o.batch * c.num_layers) *
                       c.head_dim *
                       static_cast<double>(LivePairs(pattern, c.num_heads));
  // Products of a linear layer: forward and input gradient; full tuning adds
  // the weight's gradient, LoRA three times its own small pair.
  double products = o.full_parameter ? 3 : 2;
  double flops = 2 * products * (layers + head) * tokens;
  if (!o.full_parameter) {
    double adapter = 0;  // parameters of all A and B
    const double rank = static_cast<double>(o.lora_rank);
    const auto dim = static_cast<double>(c.hidden_size);
    const auto q = static_cast<double>(c.num_heads * c.head_dim);
    const auto kv = static_cast<double>(c.num_kv_heads * c.head_dim);
    adapter += rank * (2 * (dim + q) + 2 * (dim + kv));
    if (o.all_linear) {
      adapter += 3 * rank * (dim + static_cast<double>(c.intermediate_size));
    }
    flops += 6 * adapter * static_cast<double>(c.num_layers) * tokens;
  }
  StepFlops out;
  out.model = flops + (4 + 10) * pairs;
  out.done = out.model;
  if (!o.keep_activations) out.done += 2 * layers * tokens + 4 * pairs;
  return out;
}

}  // namespace

absl::StatusOr<Report> BenchTraining(const Machine& machine, BenchModel* model,
                                     const TrainBench& o) {
  const LlamaConfig& config = model->config();
  SL_ASSIGN_OR_RETURN(const TrainingOptions options, OptionsOf(o, config));
  SL_ASSIGN_OR_RETURN(const TrainingPlan plan,
                      PlanTraining(config, options, config.context_tokens()));
  machine.backend->ResetPeak();
  SL_ASSIGN_OR_RETURN(
      const auto run,
      TrainingRun::Create(machine.backend, model->files(), options));
  model->CloseFiles();
  SL_RETURN_IF_ERROR(run->Step(Examples(o, config, 0), nullptr).status());
  ResetPeakResident();
  const Limit limit =
      o.dtype == kernels::DType::kBF16 ? Limit::kBf16 : Limit::kF32;
  const StepFlops flops = FlopsOf(o, *model, plan);
  std::vector<Sample> limits = machine.limits->Measure(limit);
  std::vector<Sample> steps;
  std::vector<double> seconds;
  double loss = 0;
  for (int64_t i = 1; i <= o.steps; ++i) {
    const auto examples = Examples(o, config, static_cast<uint64_t>(i));
    absl::Status status;
    steps.push_back(Timed([&] {
      const auto metrics = run->Step(examples, nullptr);
      status = metrics.status();
      if (metrics.ok()) loss = metrics->loss;
      return flops.model;
    }));
    SL_RETURN_IF_ERROR(status);
    seconds.push_back(steps.back().wall_seconds);
    for (const Sample& s : machine.limits->Measure(limit)) limits.push_back(s);
  }
  const int64_t peak_resident = PeakResidentBytes();
  const Rates rate = RatesOf(steps);
  const Rates peak = RatesOf(limits);
  const auto tokens = static_cast<double>(o.batch * config.context_tokens());
  Report out;
  out.Add("tokens_per_second", tokens / MedianOf(seconds));
  out.Add("tokens_per_cpu_second", tokens * rate.cpu / flops.model);
  out.Add("step_seconds", MedianOf(seconds));
  out.Add("cpu_seconds_per_step", flops.model / rate.cpu);
  out.Add("model_gflop_per_step", flops.model / 1e9);
  out.Add("gflop_per_second", rate.wall / 1e9);
  out.Add("limit_gflop_per_second", peak.wall / 1e9);
  out.Add("share_of_limit", rate.wall / peak.wall);
  out.Add("cpu_share_of_limit", rate.cpu / peak.cpu);
  out.Add("cpu_share_with_recomputation",
          rate.cpu / peak.cpu * flops.done / flops.model);
  out.Add("peak_resident_bytes", peak_resident);
  out.Add("backend_peak_bytes", machine.backend->peak_bytes());
  out.Add("planned_bytes", plan.peak_bytes);
  out.Add("peak_of_plan", static_cast<double>(machine.backend->peak_bytes()) /
                              static_cast<double>(plan.peak_bytes));
  out.Add("trainable_parameters", plan.trainable_parameters);
  out.Add("loss", loss);
  return out;
}

}  // namespace sinklora::bench
