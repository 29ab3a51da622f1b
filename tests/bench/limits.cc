// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>

#include "kernels/cpu/cpu_isa.h"
#if defined(__x86_64__)
#include "kernels/cpu/amx.h"
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/limits.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::bench {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Independent sums: latency (4) times throughput (2) of every machine we know,
// and within 16 registers beside the two operands.
constexpr int kChains = 12;

// Returns the FLOPs done; `out` keeps the compiler honest.
double FmaLoop(int64_t rounds, float* out) {
  const hn::ScalableTag<float> d;
  const auto x = hn::Set(d, 0.999f + out[0] * 0.0f);
  const auto y = hn::Set(d, 0.001f);
  hn::Vec<decltype(d)> sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Set(d, 1.0f + c);
  for (int64_t i = 0; i < rounds; ++i) {
    for (int c = 0; c < kChains; ++c) sums[c] = hn::MulAdd(sums[c], x, y);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = hn::Add(sums[0], sums[c]);
  out[0] = hn::GetLane(hn::SumOfLanes(d, sums[0]));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) *
         static_cast<double>(rounds);
}

// Sum of n floats, n a multiple of 8 vectors.
float SumLoop(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  hn::Vec<decltype(d)> sums[8];
  for (auto& sum : sums) sum = hn::Zero(d);
  for (int64_t i = 0; i < n; i += 8 * lanes) {
    for (int c = 0; c < 8; ++c) {
      sums[c] = hn::Add(sums[c], hn::LoadU(d, x + i + c * lanes));
    }
  }
  for (int c = 1; c < 8; ++c) sums[0] = hn::Add(sums[0], sums[c]);
  return hn::GetLane(hn::SumOfLanes(d, sums[0]));
}

void UpdateLoop(float* a, float s, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, s);
  for (int64_t i = 0; i < n; i += lanes) {
    hn::StoreU(hn::Mul(factor, hn::LoadU(d, a + i)), d, a + i);
  }
}

void TriadLoop(float* a, const float* b, const float* c, float s, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, s);
  for (int64_t i = 0; i < n; i += lanes) {
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, c + i), hn::LoadU(d, b + i)), d,
               a + i);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::bench {

HWY_EXPORT(FmaLoop);
HWY_EXPORT(SumLoop);
HWY_EXPORT(TriadLoop);
HWY_EXPORT(UpdateLoop);

namespace {

using kernels::cpu::ActiveCpuIsa;
using kernels::cpu::CpuIsa;

constexpr int kFlopWindows = 6;
constexpr int kBandwidthWindows = 5;
constexpr int64_t kReadBytes = int64_t{1} << 30;
constexpr int64_t kStreamBytes = int64_t{256} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;
// Cut finer than one part a thread, as the kernels' work is.
constexpr int64_t kParts = 64;
constexpr double kWindowSeconds = 0.006;

#if defined(__x86_64__)
// As FmaLoop; 64 FLOPs an instruction. Highway 1.0 has no target for it.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) double
Bf16DotLoop(int64_t rounds, float* out) {
  constexpr int kChains = 12;
  const __m512bh x = reinterpret_cast<__m512bh>(
      _mm512_set1_epi16(static_cast<int16_t>(out[0] == 0.5f ? 0 : 0x3f80)));
  // Unrolled everywhere, or the sums live in memory; different, or they are
  // one.
  __m512 sums[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c)
    sums[c] = _mm512_set1_ps(static_cast<float>(c));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], x, x);
  }
#pragma GCC unroll 12
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  out[0] = _mm512_cvtss_f32(sums[0]);
  return 64.0 * kChains * static_cast<double>(rounds);
}

// As FmaLoop; tiles loaded once, 16384 FLOPs an instruction.
SINKLORA_AMX_TARGET double AmxLoop(int64_t rounds, float* out) {
  const kernels::cpu::TileScope tiles;
  alignas(64) float sums[256] = {};
  _tile_loadd(4, sums, 64);
  _tile_loadd(5, sums, 64);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, sums, 64);
  out[0] = sums[0];
  return 4.0 * 16384.0 * static_cast<double>(rounds);
}
#else
double Bf16DotLoop(int64_t, float*) { std::abort(); }
double AmxLoop(int64_t, float*) { std::abort(); }
#endif

double DispatchedFmaLoop(int64_t rounds, float* out) {
  return HWY_DYNAMIC_DISPATCH(FmaLoop)(rounds, out);
}

// Huge pages, as the backend's own buffers have.
class Array {
 public:
  explicit Array(int64_t bytes)
      : data_(static_cast<float*>(std::aligned_alloc(kHugePage, bytes))) {
    if (data_ == nullptr) throw std::bad_alloc();
    madvise(data_, bytes, MADV_HUGEPAGE);
    std::fill_n(data_, bytes / sizeof(float), 1.0f);
  }
  ~Array() { std::free(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  float* data() const { return data_; }

 private:
  float* const data_;
};

}  // namespace

struct Limits::Arrays {
  Array read{kReadBytes};
  Array a{kStreamBytes}, b{kStreamBytes}, c{kStreamBytes};
};

std::string_view NameOf(Limit limit) {
  switch (limit) {
    case Limit::kF32:
      return "f32_fma";
    case Limit::kBf16:
      return "bf16_dot";
    case Limit::kRead:
      return "read";
    case Limit::kUpdate:
      return "update";
    case Limit::kStream:
      return "triad";
  }
  std::abort();
}

Rates RatesOf(const std::vector<Sample>& samples) {
  std::vector<double> rates;
  Sample all;
  for (const Sample& s : samples) {
    rates.push_back(s.amount / s.wall_seconds);
    all.amount += s.amount;
    all.cpu_seconds += s.cpu_seconds;
  }
  std::sort(rates.begin(), rates.end());
  return {rates[rates.size() / 2], rates.back(), all.amount / all.cpu_seconds};
}

Limits::Limits(int num_threads)
    : pool_(num_threads),
      has_bf16_dot_(ActiveCpuIsa() >= CpuIsa::kAvx512Bf16) {}

Limits::~Limits() = default;

double Limits::FlopWindow(double (*loop)(int64_t, float*)) {
  constexpr int64_t kRounds = 5'000;
  std::vector<double> flops(num_threads());
  pool_.Run(num_threads(), [&](int64_t i, int) {
    float sink = 1.0f;
    double done = 0;
    const Stopwatch stopwatch;
    while (stopwatch.wall_seconds() < kWindowSeconds) {
      done += loop(kRounds, &sink);
    }
    flops[i] = sink == 0.25f ? 0 : done;
  });
  return std::accumulate(flops.begin(), flops.end(), 0.0);
}

double Limits::ReadWindow() {
  constexpr int64_t kPart = kReadBytes / kParts / sizeof(float);
  std::vector<float> sums(kParts);
  pool_.Run(kParts, [&](int64_t i, int) {
    sums[i] =
        HWY_DYNAMIC_DISPATCH(SumLoop)(arrays_->read.data() + i * kPart, kPart);
  });
  return kReadBytes;
}

double Limits::UpdateWindow() {
  constexpr int64_t kPart = kReadBytes / kParts / sizeof(float);
  pool_.Run(kParts, [&](int64_t i, int) {
    HWY_DYNAMIC_DISPATCH(UpdateLoop)
    (arrays_->read.data() + i * kPart, -1.0f, kPart);
  });
  return 2 * kReadBytes;
}

double Limits::StreamWindow() {
  constexpr int64_t kPart = kStreamBytes / kParts / sizeof(float);
  pool_.Run(kParts, [&](int64_t i, int) {
    HWY_DYNAMIC_DISPATCH(TriadLoop)
    (arrays_->a.data() + i * kPart, arrays_->b.data() + i * kPart,
     arrays_->c.data() + i * kPart, 0.5f, kPart);
  });
  return 3 * kStreamBytes;
}

double Limits::Window(Limit limit) {
  switch (limit) {
    case Limit::kF32:
      return FlopWindow(DispatchedFmaLoop);
    case Limit::kBf16:
      if (ActiveCpuIsa() >= CpuIsa::kAmx) return FlopWindow(AmxLoop);
      return FlopWindow(has_bf16_dot_ ? Bf16DotLoop : DispatchedFmaLoop);
    case Limit::kRead:
      return ReadWindow();
    case Limit::kUpdate:
      return UpdateWindow();
    case Limit::kStream:
      return StreamWindow();
  }
  std::abort();
}

std::vector<Sample> Limits::Measure(Limit limit) {
  const bool bandwidth = limit != Limit::kF32 && limit != Limit::kBf16;
  if (bandwidth && arrays_ == nullptr) arrays_ = std::make_unique<Arrays>();
  std::vector<Sample> samples;
  for (int i = 0; i < (bandwidth ? kBandwidthWindows : kFlopWindows); ++i) {
    samples.push_back(Timed([&] { return Window(limit); }));
  }
  return samples;
}

}  // namespace sinklora::bench
#endif  // HWY_ONCE
