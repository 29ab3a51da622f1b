// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/benchmarks.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <initializer_list>

#include "kernels/attention/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/quantized_matmul/quantized_matrix.h"
#include "tests/gpu/bench_memory.h"
#include "tests/gpu/decode_layers.h"

namespace sinklora::gpu_check {
namespace {

using kernels::AttentionPattern;
using kernels::DType;
using kernels::OkStatus;
using kernels::Status;
using kernels::StatusCode;
using kernels::TensorView;
using kernels::cuda::CudaContext;
using Clock = std::chrono::steady_clock;

constexpr int kSamples = 50;
constexpr int kFewSamples = 10;  // of calls so long that 50 take too much time
constexpr double kLongSeconds = 4;
constexpr int64_t kHeads = 32, kHeadDim = 128;

class Bench {
 public:
  Bench(CudaContext* context, double deadline_seconds,
        std::vector<Measurement>* out)
      : context_(context),
        deadline_(Clock::now() +
                  std::chrono::duration_cast<Clock::duration>(
                      std::chrono::duration<double>(deadline_seconds))),
        out_(out) {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
  }
  ~Bench() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    if (flush_ != nullptr) context_->runtime().Free(flush_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Status Run();

 private:
  Status Attention(int64_t tokens, int64_t kv_heads, const std::string& name,
                   const AttentionPattern& pattern);
  struct CacheData {
    TensorView q, out, lse, scores, position;
    kernels::CacheView cache;
  };
  static Status MakeCache(Memory* memory, int64_t used, int64_t kv_heads,
                          int64_t tokens, CacheData* out);
  Status Decode(int64_t used, int64_t kv_heads);
  Status Prefill(int64_t used, int64_t kv_heads, DType product);
  Status Layers(const std::string& name, const LayerShape& shape);
  Status Weights(DType dtype, int64_t n, int64_t k);
  Status PackedWeights(kernels::QuantizedFormat format, int64_t n, int64_t k);
  Status Product(DType dtype, int64_t m, int64_t n, int64_t k);
  Status Copy();

  bool OutOfTime() const { return Clock::now() >= deadline_; }
  Status Sample(const std::function<Status()>& call, float* ms);
  // `amount`: FLOP or bytes of a call.
  Status Measure(const std::string& table, const std::string& what,
                 double amount, const std::string& unit,
                 const std::function<Status()>& call);

  CudaContext* const context_;
  const Clock::time_point deadline_;
  std::vector<Measurement>* const out_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  void* flush_ = nullptr;
};

Status Bench::Sample(const std::function<Status()>& call, float* ms) {
  const int64_t flush_bytes = 2 * context_->device().l2_bytes;
  if (flush_ == nullptr) {
    Status status = context_->runtime().Allocate(flush_bytes, &flush_);
    if (!status.ok()) return status;
  }
  Status status = context_->runtime().Zero(flush_, flush_bytes);
  if (!status.ok()) return status;
  context_->BeginOp();
  cudaEventRecord(begin_, context_->stream());
  status = call();
  cudaEventRecord(end_, context_->stream());
  if (!status.ok()) return status;
  const cudaError_t error = cudaEventSynchronize(end_);
  if (error != cudaSuccess) {
    return Status(StatusCode::kInternal, cudaGetErrorString(error));
  }
  cudaEventElapsedTime(ms, begin_, end_);
  return status;
}

Status Bench::Measure(const std::string& table, const std::string& what,
                      double amount, const std::string& unit,
                      const std::function<Status()>& call) {
  float ms = 0;
  for (int i = 0; i < 3; ++i) {  // warm-up
    if (Status status = Sample(call, &ms); !status.ok()) return status;
  }
  const int samples =
      ms * 1e-3 * kSamples > kLongSeconds ? kFewSamples : kSamples;
  std::vector<float> times;
  for (int i = 0; i < samples; ++i) {
    if (Status status = Sample(call, &ms); !status.ok()) return status;
    times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const double scale = unit == "TFLOP/s" ? 1e12 : 1e9;
  out_->push_back({table, what, samples, median, times.front(),
                   amount / (median * 1e-3) / scale, unit});
  const Measurement& m = out_->back();
  std::printf("%-10s %-44s %9.4f ms %9.1f %s (%d samples)\n", table.c_str(),
              what.c_str(), m.median_ms, m.rate, unit.c_str(), samples);
  std::fflush(stdout);
  return OkStatus();
}

Status Bench::Attention(int64_t tokens, int64_t kv_heads,
                        const std::string& name,
                        const AttentionPattern& pattern) {
  Memory memory(context_);
  TensorView q, k, v, out, lse, dout, dq, dk, dv;
  Status status = OkStatus();
  for (TensorView* x : {&q, &out, &dout, &dq}) {
    if (status.ok()) {
      status = memory.Tensor(DType::kF32, {tokens, kHeads, kHeadDim}, x);
    }
  }
  for (TensorView* x : {&k, &v, &dk, &dv}) {
    if (status.ok()) {
      status = memory.Tensor(DType::kF32, {tokens, kv_heads, kHeadDim}, x);
    }
  }
  if (status.ok()) status = memory.Tensor(DType::kF32, {kHeads, tokens}, &lse);
  if (!status.ok()) return status;
  const double pairs = static_cast<double>(kernels::LivePairs(pattern, kHeads));
  const float scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
  const std::string what = name + " N=" + std::to_string(tokens) +
                           " H=32 Hkv=" + std::to_string(kv_heads) + " D=128";
  status = Measure(
      "attention", what + " forward", 4.0 * kHeadDim * pairs, "TFLOP/s", [&] {
        return AttentionForwardCuda({.q = q,
                                     .k = k,
                                     .v = v,
                                     .pattern = &pattern,
                                     .scale = scale,
                                     .out = out,
                                     .lse = lse,
                                     .product_dtype = DType::kBF16},
                                    *context_);
      });
  if (!status.ok()) return status;
  return Measure("attention", what + " backward", 10.0 * kHeadDim * pairs,
                 "TFLOP/s", [&] {
                   return AttentionBackwardCuda({.dout = dout,
                                                 .q = q,
                                                 .k = k,
                                                 .v = v,
                                                 .out = out,
                                                 .lse = lse,
                                                 .pattern = &pattern,
                                                 .scale = scale,
                                                 .dq = dq,
                                                 .dk = dk,
                                                 .dv = dv,
                                                 .product_dtype = DType::kBF16},
                                                *context_);
                 });
}

// A bf16 cache of `used` tokens, and queries of the last `tokens` of them.
Status Bench::MakeCache(Memory* memory, int64_t used, int64_t kv_heads,
                        int64_t tokens, CacheData* out) {
  std::vector<int32_t> all, last;
  for (int64_t h = 0; h < kv_heads; ++h) {
    for (int64_t j = 0; j < used; ++j) all.push_back(static_cast<int32_t>(j));
  }
  for (int64_t j = used - tokens; j < used; ++j) {
    last.push_back(static_cast<int32_t>(j));
  }
  Status status = memory->Tensor(DType::kF32, {kHeads, tokens}, &out->lse);
  for (TensorView* x : {&out->q, &out->out}) {
    if (!status.ok()) return status;
    status = memory->Tensor(DType::kF32, {tokens, kHeads, kHeadDim}, x);
  }
  for (TensorView* x : {&out->cache.k, &out->cache.v}) {
    if (!status.ok()) return status;
    status = memory->Tensor(DType::kBF16, {kv_heads, used, kHeadDim}, x);
  }
  if (status.ok()) {
    status = memory->Tensor(DType::kF32, {kv_heads, used}, &out->scores);
  }
  if (status.ok()) {
    status = memory->Ints(all, {kv_heads, used}, &out->cache.positions);
  }
  out->cache.used = used;
  return status.ok() ? memory->Ints(last, {tokens}, &out->position) : status;
}

Status Bench::Decode(int64_t used, int64_t kv_heads) {
  Memory memory(context_);
  CacheData x;
  Status status = MakeCache(&memory, used, kv_heads, 1, &x);
  if (!status.ok()) return status;
  const double bytes = 2.0 * kv_heads * used * kHeadDim * 2;
  return Measure("decode",
                 "cache attention bf16 used=" + std::to_string(used) +
                     " Hkv=" + std::to_string(kv_heads),
                 bytes, "GB/s", [&] {
                   return CacheAttentionCuda({.q = x.q,
                                              .position = x.position,
                                              .cache = x.cache,
                                              .scale = 0.088f,
                                              .out = x.out},
                                             *context_);
                 });
}

// The last chunk of a prompt, and its column sums for H2O.
Status Bench::Prefill(int64_t used, int64_t kv_heads, DType product) {
  constexpr int64_t kTokens = 512;
  Memory memory(context_);
  CacheData x;
  Status status = MakeCache(&memory, used, kv_heads, kTokens, &x);
  const double pairs =
      kHeads * (kTokens * (used - kTokens) + kTokens * (kTokens + 1) / 2.0);
  const std::string shape =
      std::string(product == DType::kBF16 ? "bf16" : "f32") +
      " used=" + std::to_string(used) + " Hkv=" + std::to_string(kv_heads);
  if (status.ok()) {
    status = Measure("prefill", "cache attention " + shape,
                     4.0 * pairs * kHeadDim, "TFLOP/s", [&] {
                       return CacheAttentionCuda({.q = x.q,
                                                  .position = x.position,
                                                  .cache = x.cache,
                                                  .scale = 0.088f,
                                                  .out = x.out,
                                                  .lse = x.lse,
                                                  .product_dtype = product},
                                                 *context_);
                     });
  }
  if (!status.ok()) return status;
  return Measure("prefill", "column sums " + shape, 2.0 * pairs * kHeadDim,
                 "TFLOP/s", [&] {
                   return CacheColumnSumsCuda({.q = x.q,
                                               .position = x.position,
                                               .lse = x.lse,
                                               .cache = x.cache,
                                               .scale = 0.088f,
                                               .scores = x.scores,
                                               .product_dtype = product},
                                              *context_);
                 });
}

// A step asked for op by op, and as one graph.
Status Bench::Layers(const std::string& name, const LayerShape& shape) {
  DecodeLayers layers(context_, shape);
  Status status = layers.Init();
  for (const bool repeated : {false, true}) {
    if (!status.ok()) return status;
    status = Measure("decode",
                     name + ", " + std::to_string(shape.layers) + " layers, " +
                         (repeated ? "one graph" : "op by op"),
                     layers.bytes(), "GB/s", [&] {
                       return repeated ? layers.RunRepeated() : layers.Run();
                     });
  }
  return status;
}

Status Bench::Weights(DType dtype, int64_t n, int64_t k) {
  Memory memory(context_);
  TensorView a, b, out;
  Status status = memory.Tensor(DType::kF32, {1, k}, &a);
  if (status.ok()) status = memory.Tensor(dtype, {n, k}, &b);
  if (status.ok()) status = memory.Tensor(DType::kF32, {1, n}, &out);
  if (!status.ok()) return status;
  const double bytes = static_cast<double>(n * k * kernels::SizeOf(dtype));
  return Measure(
      "decode",
      std::string(dtype == DType::kBF16 ? "bf16" : "f32") + " weights, 1 row " +
          std::to_string(n) + "x" + std::to_string(k),
      bytes, "GB/s", [&] {
        return MatMulCuda({.a = a, .b = b, .out = out, .transpose_b = true},
                          *context_);
      });
}

Status Bench::PackedWeights(kernels::QuantizedFormat format, int64_t n,
                            int64_t k) {
  Memory memory(context_);
  TensorView a, weight, out;
  void* packed = nullptr;
  const int64_t bytes = kernels::QuantizedBytes(format, n, k);
  Status status = memory.Tensor(DType::kF32, {1, k}, &a);
  if (status.ok()) status = memory.Tensor(DType::kBF16, {n, k}, &weight);
  if (status.ok()) status = memory.Tensor(DType::kF32, {1, n}, &out);
  if (status.ok()) status = memory.Raw(bytes, &packed);
  if (status.ok()) {
    status = QuantizeCuda({.weight = weight, .format = format, .out = packed},
                          *context_);
  }
  if (!status.ok()) return status;
  const kernels::QuantizedMatrix matrix{packed, format, n, k};
  return Measure(
      "decode",
      std::string(format == kernels::QuantizedFormat::kInt8 ? "int8" : "int4") +
          " weights, 1 row " + std::to_string(n) + "x" + std::to_string(k),
      static_cast<double>(bytes), "GB/s", [&] {
        return QuantizedMatMulCuda({.a = a, .b = matrix, .out = out},
                                   *context_);
      });
}

Status Bench::Product(DType dtype, int64_t m, int64_t n, int64_t k) {
  Memory memory(context_);
  TensorView a, b, out;
  Status status = memory.Tensor(dtype, {m, k}, &a);
  if (status.ok()) status = memory.Tensor(dtype, {n, k}, &b);
  if (status.ok()) status = memory.Tensor(DType::kF32, {m, n}, &out);
  if (!status.ok()) return status;
  return Measure(
      "matmul",
      std::string(dtype == DType::kBF16 ? "bf16 " : "f32 ") +
          std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
      2.0 * m * n * k, "TFLOP/s", [&] {
        return MatMulCuda({.a = a, .b = b, .out = out, .transpose_b = true},
                          *context_);
      });
}

// What memory can do: a copy reads and writes.
Status Bench::Copy() {
  Memory memory(context_);
  constexpr int64_t kBytes = int64_t{1} << 30;
  void* from = nullptr;
  void* to = nullptr;
  Status status = memory.Raw(kBytes, &from);
  if (status.ok()) status = memory.Raw(kBytes, &to);
  if (status.ok()) status = context_->runtime().Zero(from, kBytes);
  if (!status.ok()) return status;
  return Measure(
      "decode", "copy of 1 GiB, bytes read and written", 2.0 * kBytes, "GB/s",
      [&] { return context_->runtime().CopyOnDevice(from, to, kBytes); });
}

Status Bench::Run() {
  std::vector<std::function<Status()>> parts;
  parts.push_back([this] { return Copy(); });
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    parts.push_back([=, this] { return Product(dtype, 4096, 4096, 4096); });
  }
  parts.push_back([this] { return Product(DType::kBF16, 8192, 8192, 8192); });
  for (const int64_t n : {4096, 14336}) {
    parts.push_back([=, this] { return Weights(DType::kBF16, n, 4096); });
    for (const auto format :
         {kernels::QuantizedFormat::kInt8, kernels::QuantizedFormat::kInt4}) {
      parts.push_back([=, this] { return PackedWeights(format, n, 4096); });
    }
  }
  for (const int64_t used : {8192, 65536}) {
    for (const int64_t kv_heads : {8, 32}) {
      parts.push_back([=, this] { return Decode(used, kv_heads); });
    }
    for (const DType product : {DType::kBF16, DType::kF32}) {
      parts.push_back([=, this] { return Prefill(used, 8, product); });
    }
  }
  parts.push_back([this] { return Layers("8B shape", LayerShape{}); });
  parts.push_back([this] {
    return Layers("1B shape", {.hidden = 2048,
                               .ffn = 5632,
                               .heads = 32,
                               .kv_heads = 4,
                               .head_dim = 64,
                               .layers = 22});
  });
  for (const int64_t tokens : {8192, 16384, 32768, 65536}) {
    for (const int64_t kv_heads : {32, 8}) {
      const int64_t group = tokens / 4;
      parts.push_back([=, this] {
        return Attention(tokens, kv_heads, "full",
                         {.segments = {{0, tokens, tokens}}});
      });
      parts.push_back([=, this] {
        return Attention(
            tokens, kv_heads, "S2",
            {.segments = {{0, tokens, group}}, .shifted_heads = kHeads / 2});
      });
      // Half of the shifted heads returned to the plain groups.
      parts.push_back([=, this] {
        return Attention(tokens, kv_heads, "SF",
                         {.segments = {{0, tokens, group}},
                          .shifted_heads = kHeads / 4,
                          .sink_tokens = 4});
      });
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (OutOfTime()) {
      std::fprintf(stderr, "out of time: %zu of %zu benchmarks left out\n",
                   parts.size() - i, parts.size());
      break;
    }
    if (Status status = parts[i](); !status.ok()) return status;
  }
  return OkStatus();
}

}  // namespace

Status RunBenchmarks(CudaContext* context, double deadline_seconds,
                     std::vector<Measurement>* out) {
  return Bench(context, deadline_seconds, out).Run();
}

std::string ToJson(const std::vector<Measurement>& all) {
  std::string out;
  for (const Measurement& m : all) {
    char text[512];
    std::snprintf(text, sizeof(text),
                  "%s  {\"table\": \"%s\", \"what\": \"%s\", \"samples\": %d, "
                  "\"median_ms\": %.6g, \"least_ms\": %.6g, \"rate\": %.6g, "
                  "\"unit\": \"%s\"}",
                  out.empty() ? "" : ",\n", m.table.c_str(), m.what.c_str(),
                  m.samples, m.median_ms, m.least_ms, m.rate, m.unit.c_str());
    out += text;
  }
  return "[\n" + out + "\n]";
}

}  // namespace sinklora::gpu_check
