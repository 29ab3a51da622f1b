// Every op of the CPU backend at sizes that matter, with its share of the
// machine's limit measured around it.
//
//   bench_kernels [--threads=N] [--cpu_isa=NAME] [google-benchmark's flags]
//
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "kernels/backend.h"
#include "tests/bench/limits.h"
#include "tests/bench/op_bench.h"

namespace sinklora::bench {
namespace {

struct Flags {
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  std::string cpu_isa = "auto";
};

[[noreturn]] void Fail(const std::string& message) {
  fmt::print(stderr, "bench_kernels: {}\n", message);
  std::exit(2);
}

// What google-benchmark left.
Flags Parse(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? "" : argument.substr(equals + 1);
    if (name == "--cpu_isa") {
      flags.cpu_isa = value;
    } else if (name == "--threads") {
      const auto [end, error] =
          std::from_chars(value.begin(), value.end(), flags.threads);
      if (error != std::errc() || end != value.end() || flags.threads < 1) {
        Fail(fmt::format("--threads is \"{}\", must be a number >= 1", value));
      }
    } else {
      Fail(fmt::format(
          "unknown argument {}, must be --threads=N, --cpu_isa=NAME or a flag "
          "of google-benchmark",
          argument));
    }
  }
  return flags;
}

// What the machine reaches before anything else runs.
void AddLimitsToContext(Limits* limits) {
  for (const Limit limit : {Limit::kF32, Limit::kBf16, Limit::kRead,
                            Limit::kUpdate, Limit::kStream}) {
    const Rates rates = RatesOf(limits->Measure(limit));
    benchmark::AddCustomContext(
        "limit_" + std::string(NameOf(limit)),
        fmt::format("median {:.1f}, best {:.1f} G/s{}", rates.wall / 1e9,
                    rates.best / 1e9,
                    limit == Limit::kBf16 && !limits->has_bf16_dot()
                        ? " (no such instruction: f32)"
                        : ""));
  }
}

void Run(const Flags& flags) {
  const kernels::BackendOptions options{.num_threads = flags.threads,
                                        .cpu_isa = flags.cpu_isa};
  std::unique_ptr<kernels::Backend> backend;
  const kernels::Status opened = kernels::OpenBackend("cpu", options, &backend);
  if (!opened.ok()) Fail(opened.message());
  benchmark::AddCustomContext("backend", backend->description());
  backend.reset();
  Limits limits(flags.threads);
  AddLimitsToContext(&limits);
  const Suite suite{options, &limits};
  RegisterMatMul(suite);
  RegisterAttention(suite);
  RegisterCache(suite);
  RegisterTrainingOps(suite);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::ClearRegisteredBenchmarks();
}

}  // namespace
}  // namespace sinklora::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  sinklora::bench::Run(sinklora::bench::Parse(argc, argv));
  benchmark::Shutdown();
  return 0;
}
