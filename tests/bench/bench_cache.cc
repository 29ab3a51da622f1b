// Serving attention over a slot cache, and H2O's bookkeeping. Decode and
// compaction move bytes; prefill and the column sums of a chunk multiply.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "tests/bench/op_bench.h"

namespace sinklora::bench {
namespace {

using kernels::Backend;
using kernels::DType;

constexpr int64_t kHeadDim = 128;

struct Shape {
  int64_t tokens;  // new ones, the last of the cache
  int64_t heads, kv_heads, slots;
  DType dtype;
};

struct Cache {
  Cache(Backend* backend, const Shape& s)
      : k(Tensor::Random(backend, s.dtype, {s.kv_heads, s.slots, kHeadDim})),
        v(Tensor::Random(backend, s.dtype, {s.kv_heads, s.slots, kHeadDim})),
        positions(Tensor::Ints(
            backend, {s.kv_heads, s.slots},
            [&](int64_t i) { return static_cast<int32_t>(i % s.slots); })),
        scores(Tensor::Zeros(backend, DType::kF32, {s.kv_heads, s.slots})),
        q(Tensor::Random(backend, DType::kF32, {s.tokens, s.heads, kHeadDim})),
        out(Tensor::Zeros(backend, DType::kF32, {s.tokens, s.heads, kHeadDim})),
        lse(Tensor::Zeros(backend, DType::kF32, {s.heads, s.tokens})),
        position(Tensor::Ints(backend, {s.tokens}, [&](int64_t i) {
          return static_cast<int32_t>(s.slots - s.tokens + i);
        })) {
    view.k = k.view();
    view.v = v.view();
    view.positions = positions.view();
    view.used = s.slots;
  }
  static float Scale() { return 1.0f / std::sqrt(float{kHeadDim}); }
  kernels::Status Attend(Backend* backend, bool with_lse) const {
    return backend->CacheAttention(
        {.q = q.view(),
         .position = position.view(),
         .cache = view,
         .scale = Scale(),
         .out = out.view(),
         .lse = with_lse ? lse.view() : kernels::TensorView()});
  }

  Tensor k, v, positions, scores, q, out, lse, position;
  kernels::CacheView view;
};

// (query, slot) pairs that a chunk at the end of the cache sees.
double Pairs(const Shape& s) {
  const auto n = static_cast<double>(s.tokens);
  return static_cast<double>(s.heads) *
         (n * static_cast<double>(s.slots) - n * (n - 1) / 2);
}

PreparedOp Attention(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Cache>(backend, s);
  const Work work = s.tokens == 1
                        ? Work{x->k.bytes() + x->v.bytes(), Limit::kRead}
                        : Work{4.0 * kHeadDim * Pairs(s), Limit::kF32};
  return {work, [x, backend] { return x->Attend(backend, false); }};
}

// One token as a sequence decodes it; with scores as H2O does, victim included.
// The positions are those of a full cache, which an evicted token would change,
// so every token is protected: all of the search and none of the writing.
PreparedOp Decode(Backend* backend, const Shape& s, bool scores) {
  auto x = std::make_shared<Cache>(backend, s);
  const auto ints = [&](int32_t value) {
    return std::make_shared<Tensor>(
        Tensor::Ints(backend, {s.kv_heads}, [=](int64_t) { return value; }));
  };
  auto growth = std::make_shared<Tensor>(
      Tensor::Zeros(backend, DType::kF32, {s.kv_heads}));
  auto victims = ints(0);
  auto slots = ints(static_cast<int32_t>(s.slots - 1));
  auto row = std::make_shared<Tensor>(
      Tensor::Random(backend, DType::kF32, {s.kv_heads, kHeadDim}));
  return {{x->k.bytes() + x->v.bytes(), Limit::kRead}, [=] {
            kernels::DecodedToken token{
                .q = x->q.view(),
                .k = row->view(),
                .v = row->view(),
                .slots = slots->view(),
                .position = static_cast<int32_t>(s.slots - 1),
                .cache = x->view,
                .out = x->out.view()};
            token.q.rank = token.out.rank = 2;
            token.q.shape = token.out.shape = {s.heads, kHeadDim, 1, 1};
            token.q.stride = token.out.stride = {kHeadDim, 1, 1, 1};
            if (scores) {
              token.scores = x->scores.view();
              token.growth = growth->view();
              token.victims = victims->view();
              token.recent_tokens = s.slots;
            }
            return backend->CacheDecode(
                {.tokens = {&token, 1}, .scale = Cache::Scale()});
          }};
}
PreparedOp DecodeAlone(Backend* backend, const Shape& s) {
  return Decode(backend, s, false);
}
PreparedOp DecodeWithScores(Backend* backend, const Shape& s) {
  return Decode(backend, s, true);
}

PreparedOp ColumnSums(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Cache>(backend, s);
  const kernels::Status attended = x->Attend(backend, true);
  const Work work = s.tokens == 1
                        ? Work{x->k.bytes(), Limit::kRead}
                        : Work{2.0 * kHeadDim * Pairs(s), Limit::kF32};
  return {work, [x, backend, attended]() -> kernels::Status {
            if (!attended.ok()) return attended;
            return backend->CacheColumnSums({.q = x->q.view(),
                                             .position = x->position.view(),
                                             .lse = x->lse.view(),
                                             .cache = x->view,
                                             .scale = Cache::Scale(),
                                             .scores = x->scores.view()});
          }};
}

// Every second slot is kept: all but the first one moves.
PreparedOp Compact(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Cache>(backend, s);
  auto keep = std::make_shared<Tensor>(
      Tensor::Ints(backend, {s.kv_heads, s.slots / 2}, [&](int64_t i) {
        return static_cast<int32_t>(i % (s.slots / 2) * 2 + 1);
      }));
  const double moved = (x->k.bytes() + x->v.bytes()) / 2;
  return {{2 * moved, Limit::kStream}, [x, keep, backend] {
            return backend->CacheCompact({.cache = x->view,
                                          .scores = x->scores.view(),
                                          .keep = keep->view()});
          }};
}

PreparedOp Write(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Cache>(backend, s);
  auto k = std::make_shared<Tensor>(
      Tensor::Random(backend, DType::kF32, {s.tokens, s.kv_heads, kHeadDim}));
  auto slots = std::make_shared<Tensor>(Tensor::Ints(
      backend, {s.kv_heads, s.tokens},
      [&](int64_t i) { return static_cast<int32_t>(i % s.tokens); }));
  const double elements = 2.0 * static_cast<double>(s.tokens) *
                          static_cast<double>(s.kv_heads) * kHeadDim;
  const auto written = static_cast<double>(kernels::SizeOf(s.dtype));
  return {{elements * (4 + written), Limit::kStream}, [x, k, slots, backend] {
            return backend->CacheWrite({.k = k->view(),
                                        .v = k->view(),
                                        .position = x->position.view(),
                                        .slots = slots->view(),
                                        .cache = x->view});
          }};
}

}  // namespace

void RegisterCache(const Suite& suite) {
  using Prepare = PreparedOp (*)(Backend*, const Shape&);
  const auto add = [&](const char* op, Prepare prepare, const Shape& s) {
    Register(suite,
             fmt::format("{}/t{}/h{}/kv{}/slots{}/{}", op, s.tokens, s.heads,
                         s.kv_heads, s.slots,
                         s.dtype == DType::kBF16 ? "bf16" : "f32"),
             [=](Backend* backend) { return prepare(backend, s); });
  };
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t kv_heads : {32, 8, 4}) {
      add("cache_decode", DecodeAlone, {1, 32, kv_heads, 16384, dtype});
      add("cache_decode_scores", DecodeWithScores,
          {1, 32, kv_heads, 16384, dtype});
    }
    for (const int64_t kv_heads : {32, 4}) {
      add("cache_attention", Attention, {1, 32, kv_heads, 16384, dtype});
      add("cache_column_sums", ColumnSums, {1, 32, kv_heads, 16384, dtype});
      add("cache_attention", Attention, {256, 32, kv_heads, 4096, dtype});
      add("cache_column_sums", ColumnSums, {256, 32, kv_heads, 4096, dtype});
    }
    add("cache_compact", Compact, {1, 32, 32, 16384, dtype});
    add("cache_write", Write, {1024, 32, 32, 1024, dtype});
  }
}

}  // namespace sinklora::bench
