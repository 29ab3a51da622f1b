// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/op_bench.h"

#include <memory>
#include <stdexcept>
#include <utility>

#include "tests/bench/memory.h"

namespace sinklora::bench {
namespace {

using kernels::Backend;
using kernels::DType;
using kernels::Status;

void Require(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

// Uniform in [-1, 1) by the upper bits of a linear congruence.
class Uniform {
 public:
  float Next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }

 private:
  uint64_t state_ = 42;
};

void RunOp(benchmark::State& state, const Suite& suite,
           const PrepareOp& prepare) {
  std::unique_ptr<Backend> backend;
  Require(kernels::OpenBackend("cpu", suite.options, &backend));
  const PreparedOp op = prepare(backend.get());
  const int64_t resident_before = ResidentBytes();
  ResetPeakResident();
  Require(op.run());  // packs weights, makes primitives, reserves scratch
  const int64_t extra = PeakResidentBytes() - resident_before;
  std::vector<Sample> limits = suite.limits->Measure(op.work.limit);
  std::vector<Sample> samples;
  for (auto _ : state) {
    samples.push_back(Timed([&] {
      Require(op.run());
      return op.work.amount;
    }));
    state.SetIterationTime(samples.back().wall_seconds);
  }
  const std::vector<Sample> after = suite.limits->Measure(op.work.limit);
  limits.insert(limits.end(), after.begin(), after.end());
  const Rates rate = RatesOf(samples);
  const Rates limit = RatesOf(limits);
  state.counters["rate"] = rate.wall;
  state.counters["limit"] = limit.wall;
  state.counters["share"] = rate.wall / limit.wall;
  state.counters["cpu_rate"] = rate.cpu;
  state.counters["cpu_share"] = rate.cpu / limit.cpu;
  state.counters["extra_MiB"] = static_cast<double>(extra) / (1 << 20);
  state.SetLabel(std::string(NameOf(op.work.limit)));
}

}  // namespace

Tensor Tensor::Random(Backend* backend, DType dtype,
                      std::initializer_list<int64_t> shape) {
  Tensor out = Zeros(backend, dtype, shape);
  Uniform uniform;
  const int64_t n = out.view_.num_elements();
  for (int64_t i = 0; i < n; ++i) {
    const float value = uniform.Next();
    if (dtype == DType::kBF16) {
      out.view_.as<kernels::bf16_t>()[i] = kernels::ToBf16(value);
    } else {
      out.view_.as<float>()[i] = value;
    }
  }
  return out;
}

Tensor Tensor::Zeros(Backend* backend, DType dtype,
                     std::initializer_list<int64_t> shape) {
  Tensor out;
  out.view_ = kernels::TensorView(nullptr, dtype, shape);
  const int64_t bytes = out.view_.num_elements() * kernels::SizeOf(dtype);
  Require(backend->Allocate(bytes, &out.buffer_));
  Require(backend->Zero(out.buffer_.data(), bytes));
  out.view_.data = out.buffer_.data();
  return out;
}

Tensor Tensor::Floats(Backend* backend, std::initializer_list<int64_t> shape,
                      const std::function<float(int64_t)>& value_of) {
  Tensor out = Zeros(backend, DType::kF32, shape);
  const int64_t n = out.view_.num_elements();
  for (int64_t i = 0; i < n; ++i) out.view_.as<float>()[i] = value_of(i);
  return out;
}

Tensor Tensor::Ints(Backend* backend, std::initializer_list<int64_t> shape,
                    const std::function<int32_t(int64_t)>& value_of) {
  Tensor out = Zeros(backend, DType::kI32, shape);
  const int64_t n = out.view_.num_elements();
  for (int64_t i = 0; i < n; ++i) out.view_.as<int32_t>()[i] = value_of(i);
  return out;
}

void Register(const Suite& suite, const std::string& name, PrepareOp prepare) {
  const auto run = [suite, prepare = std::move(prepare)](auto& state) {
    try {
      RunOp(state, suite, prepare);
    } catch (const std::exception& e) {
      state.SkipWithError(e.what());
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace sinklora::bench
