// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/gemm_engine.h"

#include <omp.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/matmul/amx_gemm.h"
#include "kernels/matmul/few_rows_gemm.h"
#include "kernels/matmul/simd_gemm.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace sinklora::kernels::cpu {
namespace {

using dnnl::memory;

// Ragged prefill lengths each bring shapes of their own; beyond this many the
// cache starts over.
constexpr size_t kMaxPrimitives = 1024;

// oneDNN sizes its OpenMP team by the calling thread's setting. Threads are
// ours, so the team is one.
class SingleOmpThread {
 public:
  SingleOmpThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~SingleOmpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  const int before_;
};

struct ShapeHash {
  size_t operator()(const GemmShape& s) const {
    size_t hash = static_cast<size_t>(s.m);
    for (int64_t part :
         {s.n, s.k, static_cast<int64_t>(s.dtype),
          static_cast<int64_t>(s.out_dtype), int64_t{s.transpose_b},
          int64_t{s.accumulate}, static_cast<int64_t>(s.alpha * 4096.0f)}) {
      hash = hash * 0x9e3779b97f4a7c15ull + static_cast<size_t>(part);
    }
    return hash;
  }
};

memory::data_type ToDnnl(DType dtype) {
  return dtype == DType::kBF16 ? memory::data_type::bf16
                               : memory::data_type::f32;
}

struct Primitive {
  dnnl::matmul matmul;
  memory::desc a, b, out, scratchpad;
};

dnnl::matmul::primitive_desc Describe(const GemmShape& s,
                                      const dnnl::engine& engine) {
  using Dims = memory::dims;
  const memory::desc a({s.m, s.k}, ToDnnl(s.dtype), Dims{s.k, 1});
  const memory::desc b({s.k, s.n}, ToDnnl(s.dtype),
                       s.transpose_b ? Dims{1, s.k} : Dims{s.n, 1});
  const memory::desc out({s.m, s.n}, ToDnnl(s.out_dtype), Dims{s.n, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.alpha != 1.0f) attributes.set_output_scales(0, {s.alpha});
  if (s.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  return dnnl::matmul::primitive_desc({a, b, out}, attributes, engine);
}

bool IsInvariant(const dnnl::matmul::primitive_desc& description) {
  return std::string(description.impl_info_str()).starts_with("brg");
}

bool Supports(DType dtype, const dnnl::engine& engine) {
  const SingleOmpThread single;
  GemmShape probe{.m = 16, .n = 64, .k = 64, .dtype = dtype};
  try {
    return IsInvariant(Describe(probe, engine));
  } catch (const dnnl::error&) {
    return false;  // no implementation at all on this processor
  }
}

}  // namespace

// How many elements of k oneDNN sums in one chain, found out by comparing bits;
// 0 when it does something else. Its blocks follow from k and the dtype alone,
// as for a row of `out` they must (gemm_engine.h).
using RunShape =
    std::function<void(const GemmShape&, const void*, const void*, void*)>;
int64_t FindChunk(DType dtype, int64_t k, const RunShape& run) {
#ifdef __x86_64__
  const GemmShape shape{
      .m = 2, .n = 48, .k = k, .dtype = dtype, .transpose_b = true};
  if (!IsFewRows(shape)) return 0;
  std::vector<float> a(shape.m * k), b(shape.n * k);
  uint32_t state = 1;
  const auto fill = [&state, dtype](std::vector<float>* values) {
    auto* halves = reinterpret_cast<bf16_t*>(values->data());
    for (size_t i = 0; i < values->size(); ++i) {
      state = state * 1664525u + 1013904223u;
      const float value =
          static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
      if (dtype == DType::kBF16) {
        halves[i] = ToBf16(value);
      } else {
        (*values)[i] = value;
      }
    }
  };
  fill(&a);
  fill(&b);
  std::vector<float> want(shape.m * shape.n), got(want.size());
  run(shape, a.data(), b.data(), want.data());
  for (const int64_t chunk : {k, int64_t{1024}, int64_t{512}, int64_t{768},
                              int64_t{256}, int64_t{2048}}) {
    if (chunk > k) continue;
    FewRowsGemm(shape, chunk, a.data(), b.data(), got.data());
    if (std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) ==
        0) {
      return chunk;
    }
  }
#endif
  return 0;
}

struct GemmEngine::Impl {
  explicit Impl(int num_threads)
      : engine(dnnl::engine::kind::cpu, 0),
        use_onednn(Supports(DType::kF32, engine)),
        use_amx(ActiveCpuIsa() >= CpuIsa::kAmx),
        has_bf16(use_amx || (use_onednn && Supports(DType::kBF16, engine))),
        scratchpads(num_threads) {
    for (int i = 0; i < num_threads; ++i) streams.emplace_back(engine);
  }

  std::shared_ptr<const Primitive> Get(const GemmShape& shape);
  void RunOneDnn(const GemmShape& shape, const void* a, const void* b,
                 void* out, int thread);
  int64_t ChunkOf(DType dtype, int64_t k, int thread);

  dnnl::engine engine;
  const bool use_onednn;
  const bool use_amx;  // for bf16
  const bool has_bf16;
  std::vector<dnnl::stream> streams;
  std::vector<Scratch> scratchpads;
  std::mutex mutex;
  // Protected by mutex.
  std::unordered_map<GemmShape, std::shared_ptr<const Primitive>, ShapeHash>
      primitives;
  std::map<std::pair<DType, int64_t>, int64_t> chunks;  // FindChunk's
};

int64_t GemmEngine::Impl::ChunkOf(DType dtype, int64_t k, int thread) {
  if (ActiveCpuIsa() < CpuIsa::kAvx512) return 0;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (const auto it = chunks.find({dtype, k}); it != chunks.end()) {
      return it->second;
    }
  }
  const int64_t chunk =
      FindChunk(dtype, k,
                [&](const GemmShape& shape, const void* a, const void* b,
                    void* out) { RunOneDnn(shape, a, b, out, thread); });
  std::lock_guard<std::mutex> lock(mutex);
  return chunks.emplace(std::pair(dtype, k), chunk).first->second;
}

std::shared_ptr<const Primitive> GemmEngine::Impl::Get(const GemmShape& shape) {
  std::lock_guard<std::mutex> lock(mutex);
  if (const auto it = primitives.find(shape); it != primitives.end()) {
    return it->second;
  }
  const auto description = Describe(shape, engine);
  if (!IsInvariant(description)) {
    throw std::runtime_error(
        "matmul: oneDNN offers " + std::string(description.impl_info_str()) +
        " for m=" + std::to_string(shape.m) + " n=" + std::to_string(shape.n) +
        " k=" + std::to_string(shape.k) + ", must be a brg kernel");
  }
  auto primitive = std::make_shared<Primitive>(
      Primitive{dnnl::matmul(description), description.src_desc(),
                description.weights_desc(), description.dst_desc(),
                description.scratchpad_desc()});
  if (primitives.size() >= kMaxPrimitives) primitives.clear();
  primitives.emplace(shape, primitive);
  return primitive;
}

GemmEngine::GemmEngine(int num_threads)
    : impl_(std::make_unique<Impl>(num_threads)) {}

GemmEngine::~GemmEngine() = default;

bool GemmEngine::has_bf16() const { return impl_->has_bf16; }

bool GemmEngine::rounds_a() const { return impl_->use_amx; }

bool GemmEngine::packs_b(DType dtype) const {
  return dtype == DType::kBF16 && impl_->use_amx;
}

int64_t GemmEngine::TilesBytes(int64_t n, int64_t k) const {
#ifdef __x86_64__
  return AmxTilesBytes(n, k);
#else
  (void)n, (void)k;
  return 0;
#endif
}

void GemmEngine::PackB(const GemmShape& shape, const void* b, int64_t column,
                       int64_t columns, void* tiles) const {
#ifdef __x86_64__
  AmxPackB(shape, static_cast<const bf16_t*>(b), column, columns, tiles);
#else
  (void)shape, (void)b, (void)column, (void)columns, (void)tiles;
#endif
}

int64_t GemmEngine::SumChunk(DType dtype, int64_t k) {
  if (dtype == DType::kBF16 && impl_->use_amx) return 0;
  if (impl_->use_onednn) return impl_->ChunkOf(dtype, k, 0);
  return dtype == DType::kF32 ? k : 0;
}

void GemmEngine::Run(const GemmShape& shape, const void* a, const void* b,
                     void* out, int thread) {
  if (!impl_->use_onednn) {
    SimdGemm(shape, static_cast<const float*>(a), static_cast<const float*>(b),
             static_cast<float*>(out), impl_->scratchpads[thread]);
    return;
  }
#ifdef __x86_64__
  if (shape.dtype == DType::kBF16 && impl_->use_amx) {
    AmxGemm(shape, a, b, out, impl_->scratchpads[thread]);
    return;
  }
  if (IsFewRows(shape)) {
    const int64_t chunk = impl_->ChunkOf(shape.dtype, shape.k, thread);
    if (chunk > 0) {
      FewRowsGemm(shape, chunk, a, b, static_cast<float*>(out));
      return;
    }
  }
#endif
  impl_->RunOneDnn(shape, a, b, out, thread);
}

void GemmEngine::Impl::RunOneDnn(const GemmShape& shape, const void* a,
                                 const void* b, void* out, int thread) {
  const SingleOmpThread single;
  const auto primitive = Get(shape);
  void* scratchpad = scratchpads[thread].ReserveBytes(
      static_cast<int64_t>(primitive->scratchpad.get_size()) + 64);
  dnnl::stream& stream = streams[thread];
  primitive->matmul.execute(
      stream,
      {{DNNL_ARG_SRC, memory(primitive->a, engine, const_cast<void*>(a))},
       {DNNL_ARG_WEIGHTS, memory(primitive->b, engine, const_cast<void*>(b))},
       {DNNL_ARG_DST, memory(primitive->out, engine, out)},
       {DNNL_ARG_SCRATCHPAD,
        memory(primitive->scratchpad, engine, scratchpad)}});
  stream.wait();
}

}  // namespace sinklora::kernels::cpu
