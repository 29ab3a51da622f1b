// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "tests/bench/memory.h"
#include "tests/bench/step_bench.h"

namespace sinklora::bench {
namespace {

using SequencePtr = std::unique_ptr<Sequence>;

absl::StatusOr<std::shared_ptr<ServedModel>> Serve(const Machine& machine,
                                                   BenchModel* model,
                                                   WeightType type,
                                                   int64_t tokens) {
  SL_ASSIGN_OR_RETURN(auto weights,
                      BaseWeights::Load(machine.backend, model->files(), type));
  model->CloseFiles();
  SL_ASSIGN_OR_RETURN(auto served,
                      ServedModel::Create(std::move(weights), nullptr, 0));
  if (tokens > served->context_tokens()) {
    return absl::InvalidArgumentError(
        fmt::format("prompt and answer have {} tokens, must be at most {} (the "
                    "model's context)",
                    tokens, served->context_tokens()));
  }
  return served;
}

// Of one weight of the layers, and of the head.
double LayerWeightBytes(WeightType type) {
  using kernels::QuantizedFormat;
  const auto packed = [](QuantizedFormat format) {
    return static_cast<double>(kernels::QuantizedRecordBytes(format)) /
           (kernels::kQuantizedPanel * kernels::kQuantizedBlock);
  };
  switch (type) {
    case WeightType::kFloat32:
      return 4;
    case WeightType::kBfloat16:
      return 2;
    case WeightType::kInt8:
      return packed(QuantizedFormat::kInt8);
    case WeightType::kInt4:
      return packed(QuantizedFormat::kInt4);
  }
  return 0;
}
double HeadWeightBytes(WeightType type) {
  return LayerWeightBytes(type == WeightType::kInt4 ? WeightType::kInt8 : type);
}

absl::StatusOr<ResolvedCache> CacheOf(const std::string& name,
                                      const DecodeBench& o,
                                      const ServedModel& served) {
  CacheOptions out;
  const auto resolve = [&] {
    return Resolve(out, o.prompt, served.context_tokens(),
                   served.own_cache_storage());
  };
  if (name == "full") return resolve();
  if (name == "h2o") {
    out.policy = CachePolicyKind::kH2o;
  } else if (name == "streaming") {
    out.policy = CachePolicyKind::kStreamingLlm;
  } else if (name == "window") {
    out.policy = CachePolicyKind::kSlidingWindow;
  } else {
    return absl::InvalidArgumentError(fmt::format(
        "--cache has {}, must be full, h2o, streaming or window", name));
  }
  out.prompt_ratio = o.budget_ratio;
  return resolve();
}

// The sequences of one policy, and how fast they went.
struct Contender {
  std::string name;
  std::vector<SequencePtr> sequences;
  double prefill_seconds = 0;
  std::vector<double> round_rates;  // tokens/s
  double cpu_seconds = 0;
  int64_t tokens = 0;

  int64_t kv_bytes() const {
    int64_t sum = 0;
    for (const SequencePtr& s : sequences) sum += s->usage().resident_bytes;
    return sum;
  }
};

absl::StatusOr<Contender> Fill(const std::string& name,
                               const std::shared_ptr<ServedModel>& served,
                               const DecodeBench& o) {
  const int64_t tokens = o.prompt + o.tokens + 1;
  SL_ASSIGN_OR_RETURN(const ResolvedCache cache, CacheOf(name, o, *served));
  Contender out;
  out.name = name;
  const Stopwatch stopwatch;
  for (int64_t i = 0; i < o.batch; ++i) {
    SL_ASSIGN_OR_RETURN(SequencePtr sequence,
                        Sequence::Create(served, cache, tokens));
    SL_RETURN_IF_ERROR(
        sequence->Prefill(RandomTokens(o.prompt, served->config().vocab_size,
                                       static_cast<uint64_t>(i)),
                          /*last=*/true));
    SL_RETURN_IF_ERROR(sequence->Decode(1));  // warms up
    out.sequences.push_back(std::move(sequence));
  }
  out.prefill_seconds = stopwatch.wall_seconds();
  return out;
}

// As the engine: one token of every sequence at once.
absl::Status DecodeRound(int64_t tokens, BatchDecoder* decoder,
                         Contender* contender) {
  std::vector<Sequence*> batch;
  for (const SequencePtr& s : contender->sequences) batch.push_back(s.get());
  const Stopwatch stopwatch;
  for (int64_t i = 0; i < tokens; ++i) {
    const std::vector<int32_t> next(batch.size(),
                                    static_cast<int32_t>(i % 7 + 1));
    for (const absl::Status& status : decoder->Decode(batch, next)) {
      SL_RETURN_IF_ERROR(status);
    }
  }
  contender->round_rates.push_back(
      static_cast<double>(tokens) *
      static_cast<double>(contender->sequences.size()) /
      stopwatch.wall_seconds());
  contender->cpu_seconds += stopwatch.cpu_seconds();
  contender->tokens +=
      tokens * static_cast<int64_t>(contender->sequences.size());
  return absl::OkStatus();
}

void AddContender(const Contender& c, double weight_bytes, double read_limit,
                  Report* out) {
  // What one token of every sequence must read at least: the weights once for
  // all of them, and every cache.
  const double needed = weight_bytes + static_cast<double>(c.kv_bytes());
  const double rate = MedianOf(c.round_rates);
  const double bytes = needed * rate / static_cast<double>(c.sequences.size());
  out->Add(c.name + ".tokens_per_second", rate);
  out->Add(c.name + ".kv_bytes", c.kv_bytes());
  out->Add(c.name + ".read_gb_per_second", bytes / 1e9);
  out->Add(c.name + ".share_of_read_limit", bytes / read_limit);
  out->Add(c.name + ".tokens_per_cpu_second",
           static_cast<double>(c.tokens) / c.cpu_seconds);
  out->Add(c.name + ".prefill_seconds", c.prefill_seconds);
}

// Ratios of rounds that ran one after the other.
double PairedRatio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return MedianOf(std::move(ratios));
}

}  // namespace

absl::StatusOr<Report> BenchPrefill(const Machine& machine, BenchModel* model,
                                    const PrefillBench& o) {
  SL_ASSIGN_OR_RETURN(const auto served,
                      Serve(machine, model, o.weight_type, o.prompt));
  const LlamaConfig& c = model->config();
  SL_ASSIGN_OR_RETURN(
      const ResolvedCache cache,
      Resolve(CacheOptions(), o.prompt, o.prompt, served->own_cache_storage()));
  const auto prompt = RandomTokens(o.prompt, c.vocab_size, 7);
  const auto tokens = static_cast<double>(o.prompt);
  // Logits of the last token only.
  const double flops =
      2 * static_cast<double>(model->layer_matrix_parameters()) * tokens +
      2 * static_cast<double>(model->head_parameters()) +
      4.0 * static_cast<double>(c.num_layers * c.num_heads * c.head_dim) *
          tokens * (tokens + 1) / 2;
  const Limit limit =
      o.weight_type == WeightType::kFloat32 ? Limit::kF32 : Limit::kBf16;
  std::vector<Sample> limits = machine.limits->Measure(limit);
  std::vector<Sample> runs;
  std::vector<double> seconds;
  for (int64_t i = 0; i <= o.repetitions; ++i) {
    SL_ASSIGN_OR_RETURN(const SequencePtr sequence,
                        Sequence::Create(served, cache, o.prompt));
    absl::Status status;
    const Sample sample = Timed([&] {
      status = sequence->Prefill(prompt, /*last=*/true);
      return flops;
    });
    SL_RETURN_IF_ERROR(status);
    if (i == 0) {
      ResetPeakResident();
      continue;
    }
    runs.push_back(sample);
    seconds.push_back(sample.wall_seconds);
    for (const Sample& s : machine.limits->Measure(limit)) limits.push_back(s);
  }
  const Rates rate = RatesOf(runs);
  const Rates peak = RatesOf(limits);
  Report out;
  out.Add("tokens_per_second", tokens / MedianOf(seconds));
  out.Add("tokens_per_cpu_second", tokens * rate.cpu / flops);
  out.Add("gflop_per_second", rate.wall / 1e9);
  out.Add("limit_gflop_per_second", peak.wall / 1e9);
  out.Add("share_of_limit", rate.wall / peak.wall);
  out.Add("cpu_share_of_limit", rate.cpu / peak.cpu);
  out.Add("layer_and_head_bytes",
          static_cast<double>(model->layer_matrix_parameters()) *
                  LayerWeightBytes(o.weight_type) +
              static_cast<double>(model->head_parameters()) *
                  HeadWeightBytes(o.weight_type));
  out.Add("peak_resident_bytes", PeakResidentBytes());
  out.Add("backend_peak_bytes", machine.backend->peak_bytes());
  return out;
}

absl::StatusOr<Report> BenchDecode(const Machine& machine, BenchModel* model,
                                   const DecodeBench& o) {
  SL_ASSIGN_OR_RETURN(const auto served, Serve(machine, model, o.weight_type,
                                               o.prompt + o.tokens + 1));
  ResetPeakResident();
  const auto decoder = BatchDecoder::Create();
  std::vector<Contender> contenders;
  for (const std::string& name : o.caches) {
    SL_ASSIGN_OR_RETURN(Contender contender, Fill(name, served, o));
    contenders.push_back(std::move(contender));
  }
  // Before the arrays that bandwidth is measured with exist.
  const int64_t peak_resident = PeakResidentBytes();
  std::vector<Sample> limits = machine.limits->Measure(Limit::kRead);
  for (int64_t round = 0; round < o.rounds; ++round) {
    for (Contender& contender : contenders) {
      SL_RETURN_IF_ERROR(
          DecodeRound(o.tokens / o.rounds, decoder.get(), &contender));
    }
    for (const Sample& s : machine.limits->Measure(Limit::kRead)) {
      limits.push_back(s);
    }
  }
  const Rates read = RatesOf(limits);
  const double weight_bytes =
      static_cast<double>(model->layer_matrix_parameters()) *
          LayerWeightBytes(o.weight_type) +
      static_cast<double>(model->head_parameters()) *
          HeadWeightBytes(o.weight_type);
  Report out;
  out.Add("weight_bytes_per_token", weight_bytes);
  out.Add("read_limit_gb_per_second", read.wall / 1e9);
  for (const Contender& c : contenders) {
    AddContender(c, weight_bytes, read.wall, &out);
  }
  const Contender& first = contenders.front();
  for (size_t i = 1; i < contenders.size(); ++i) {
    const Contender& other = contenders[i];
    out.Add(fmt::format("{}_over_{}", first.name, other.name),
            PairedRatio(first.round_rates, other.round_rates));
    out.Add(fmt::format("{}_over_{}.cpu", first.name, other.name),
            other.cpu_seconds / first.cpu_seconds);
  }
  out.Add("peak_resident_bytes", peak_resident);
  out.Add("backend_peak_bytes", machine.backend->peak_bytes());
  return out;
}

}  // namespace sinklora::bench
