// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <string>

#include "tests/gpu/checker.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::gpu_check {
namespace {

using kernels::AttentionGradientTolerance;
using kernels::AttentionPattern;
using kernels::AttentionTolerance;
using kernels::Backend;
using kernels::DType;
using kernels::Status;
using kernels::SumTolerance;
using testing::Tolerance;
using Outputs = std::vector<HostData>;

constexpr DType kF32 = DType::kF32;
constexpr double kLargestScore = 8.0;  // of normal queries and keys
constexpr Tolerance kExact{};

struct Shape {
  int64_t heads, kv_heads, head_dim;
};

std::string Text(const Shape& s) {
  char text[64];
  std::snprintf(text, sizeof(text), "H%d Hkv%d D%d", static_cast<int>(s.heads),
                static_cast<int>(s.kv_heads), static_cast<int>(s.head_dim));
  return text;
}

void CheckTraining(Checker* checker, const Shape& s, const std::string& name,
                   const AttentionPattern& pattern, int64_t tokens,
                   DType product) {
  HostData q = HostData::Random(kF32, {tokens, s.heads, s.head_dim}, 31);
  HostData k = HostData::Random(kF32, {tokens, s.kv_heads, s.head_dim}, 32);
  HostData v = HostData::Random(kF32, {tokens, s.kv_heads, s.head_dim}, 33);
  HostData dout = HostData::Random(kF32, {tokens, s.heads, s.head_dim}, 34);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const auto run = [&](Backend& backend, Outputs* out) {
    out->assign(2, HostData(kF32, {tokens, s.heads, s.head_dim}));  // out, dq
    out->insert(out->end(), 2,
                HostData(kF32, {tokens, s.kv_heads, s.head_dim}));
    HostData lse(kF32, {s.heads, tokens});
    Status status = backend.AttentionForward({.q = q.view(),
                                              .k = k.view(),
                                              .v = v.view(),
                                              .pattern = &pattern,
                                              .scale = scale,
                                              .out = (*out)[0].view(),
                                              .lse = lse.view(),
                                              .product_dtype = product});
    if (!status.ok()) return status;
    return backend.AttentionBackward({.dout = dout.view(),
                                      .q = q.view(),
                                      .k = k.view(),
                                      .v = v.view(),
                                      .out = (*out)[0].view(),
                                      .lse = lse.view(),
                                      .pattern = &pattern,
                                      .scale = scale,
                                      .dq = (*out)[1].view(),
                                      .dk = (*out)[2].view(),
                                      .dv = (*out)[3].view(),
                                      .product_dtype = product});
  };
  const Tolerance forward =
      AttentionTolerance(s.head_dim, kLargestScore, product);
  const Tolerance gradient =
      AttentionGradientTolerance(s.head_dim, tokens, kLargestScore, product);
  checker->Check(product == DType::kBF16 ? "attention_bf16" : "attention_f32",
                 Text(s) + " " + name, run,
                 {forward, gradient, gradient, gradient});
}

void CheckPatterns(Checker* checker, const Shape& s, DType product) {
  constexpr int64_t kTokens = 300;
  const int64_t half = s.heads / 2;
  CheckTraining(checker, s, "full", {.segments = {{0, kTokens, kTokens}}},
                kTokens, product);
  CheckTraining(checker, s, "S2",
                {.segments = {{0, kTokens, 72}}, .shifted_heads = half},
                kTokens, product);
  CheckTraining(checker, s, "SF",
                {.segments = {{0, 190, 64}, {190, 97, 31}},
                 .shifted_heads = half,
                 .sink_tokens = 4},
                kTokens, product);
  CheckTraining(checker, s, "window",
                {.segments = {{0, kTokens, 128}},
                 .shifted_heads = half,
                 .sink_tokens = 4,
                 .window = 50},
                kTokens, product);
}

// Writes tokens into a cache, attends, sums columns and compacts.
void CheckCache(Checker* checker, const Shape& s, DType storage, int64_t used,
                int64_t tokens, DType product) {
  const int64_t slots = used + 7;
  std::vector<int32_t> positions, places, keep, last;
  for (int64_t t = 0; t < used; ++t) {
    positions.push_back(static_cast<int32_t>(t));
  }
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    for (int64_t t = 0; t < used; ++t) {
      places.push_back(static_cast<int32_t>(t));
    }
    for (int64_t t = h % 2; t < used; t += 2) {
      if (static_cast<int64_t>(keep.size()) < (h + 1) * (used / 2)) {
        keep.push_back(static_cast<int32_t>(t));
      }
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    last.push_back(static_cast<int32_t>(used - tokens + t));
  }
  HostData position = HostData::Ints({used}, positions);
  HostData place = HostData::Ints({s.kv_heads, used}, places);
  HostData kept = HostData::Ints({s.kv_heads, used / 2}, keep);
  HostData at = HostData::Ints({tokens}, last);
  HostData k = HostData::Random(kF32, {used, s.kv_heads, s.head_dim}, 35);
  HostData v = HostData::Random(kF32, {used, s.kv_heads, s.head_dim}, 36);
  HostData q = HostData::Random(kF32, {tokens, s.heads, s.head_dim}, 37);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const auto run = [&](Backend& backend, Outputs* out) {
    HostData cache_k(storage, {s.kv_heads, slots, s.head_dim});
    HostData cache_v(storage, {s.kv_heads, slots, s.head_dim});
    HostData k_scale(kF32, {s.kv_heads, slots});
    HostData v_scale(kF32, {s.kv_heads, slots});
    HostData cache_positions = HostData::Ints(
        {s.kv_heads, slots}, std::vector<int32_t>(s.kv_heads * slots, -1));
    HostData lse(kF32, {s.heads, tokens});
    kernels::CacheView cache{.k = cache_k.view(),
                             .v = cache_v.view(),
                             .positions = cache_positions.view(),
                             .used = used};
    if (storage == DType::kI8) {
      cache.k_scale = k_scale.view();
      cache.v_scale = v_scale.view();
    }
    out->assign(1, HostData(kF32, {tokens, s.heads, s.head_dim}));
    out->push_back(HostData::Random(kF32, {s.kv_heads, slots}, 38, 0.0));
    Status status = backend.CacheWrite({.k = k.view(),
                                        .v = v.view(),
                                        .position = position.view(),
                                        .slots = place.view(),
                                        .cache = cache});
    if (status.ok()) {
      status = backend.CacheAttention({.q = q.view(),
                                       .position = at.view(),
                                       .cache = cache,
                                       .scale = scale,
                                       .out = (*out)[0].view(),
                                       .lse = lse.view(),
                                       .product_dtype = product});
    }
    if (status.ok()) {
      status = backend.CacheColumnSums({.q = q.view(),
                                        .position = at.view(),
                                        .lse = lse.view(),
                                        .cache = cache,
                                        .scale = scale,
                                        .scores = (*out)[1].view(),
                                        .product_dtype = product});
    }
    if (status.ok()) {
      status = backend.CacheCompact(
          {.cache = cache, .scores = (*out)[1].view(), .keep = kept.view()});
    }
    out->push_back(cache_positions);
    return status;
  };
  const Tolerance near = AttentionTolerance(s.head_dim, kLargestScore, product);
  Tolerance sums = near;
  sums.of_largest += SumTolerance(tokens * s.heads).of_largest;
  const char* name = storage == DType::kI8     ? "cache_i8"
                     : storage == DType::kBF16 ? "cache_bf16"
                                               : "cache_f32";
  checker->Check(name,
                 Text(s) + " used " + std::to_string(used) + " tokens " +
                     std::to_string(tokens) +
                     (product == DType::kBF16 ? " bf16 products" : ""),
                 run, {near, sums, kExact});
}

// One sequence of a batch to decode.
struct Decoding {
  Decoding(const Shape& s, DType storage, int64_t used, uint64_t seed)
      : cache_k(storage, {s.kv_heads, used, s.head_dim}),
        cache_v(storage, {s.kv_heads, used, s.head_dim}),
        k_scale(kF32, {s.kv_heads, used}),
        v_scale(kF32, {s.kv_heads, used}),
        q(HostData::Random(kF32, {s.heads, s.head_dim}, seed)),
        k(HostData::Random(kF32, {s.kv_heads, s.head_dim}, seed + 1)),
        v(HostData::Random(kF32, {s.kv_heads, s.head_dim}, seed + 2)),
        scores(HostData::Random(kF32, {s.kv_heads, used}, seed, 0.0)),
        out(kF32, {s.heads, s.head_dim}),
        growth(kF32, {s.kv_heads}),
        victims(DType::kI32, {s.kv_heads}) {
    std::vector<int32_t> held, last;
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      for (int64_t t = 0; t < used; ++t) {
        held.push_back(t + 1 < used ? static_cast<int32_t>(t) : -1);
      }
      last.push_back(static_cast<int32_t>(used - 1));
    }
    positions = HostData::Ints({s.kv_heads, used}, held);
    slots = HostData::Ints({s.kv_heads}, last);
  }
  kernels::CacheView Cache(DType storage, int64_t used) {
    kernels::CacheView cache{.k = cache_k.view(),
                             .v = cache_v.view(),
                             .positions = positions.view(),
                             .used = used};
    if (storage == DType::kI8) {
      cache.k_scale = k_scale.view();
      cache.v_scale = v_scale.view();
    }
    return cache;
  }
  // Fills the cache but for the last token.
  Status Fill(Backend& backend, const Shape& s, DType storage, int64_t used) {
    const int64_t count = used - 1;
    if (count == 0) return kernels::OkStatus();
    HostData rows = HostData::Random(kF32, {count, s.kv_heads, s.head_dim}, 9);
    std::vector<int32_t> at, places;
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      for (int64_t t = 0; t < count; ++t) {
        places.push_back(static_cast<int32_t>(t));
        if (h == 0) at.push_back(static_cast<int32_t>(t));
      }
    }
    HostData position = HostData::Ints({count}, at);
    HostData place = HostData::Ints({s.kv_heads, count}, places);
    return backend.CacheWrite({.k = rows.view(),
                               .v = rows.view(),
                               .position = position.view(),
                               .slots = place.view(),
                               .cache = Cache(storage, used)});
  }

  HostData cache_k, cache_v, k_scale, v_scale, positions, slots;
  HostData q, k, v, scores, out, growth, victims;
};

// Decodes a token of sequences of these lengths in one batch.
void CheckDecode(Checker* checker, const Shape& s, DType storage,
                 const std::vector<int64_t>& lengths) {
  const auto run = [&](Backend& backend, Outputs* out) {
    out->clear();
    std::vector<Decoding> all;
    all.reserve(lengths.size());
    std::vector<kernels::DecodedToken> tokens;
    Status status;
    for (const int64_t used : lengths) {
      Decoding& d = all.emplace_back(s, storage, used, 50 + used);
      if (status.ok()) status = d.Fill(backend, s, storage, used);
      auto& t = tokens.emplace_back(
          kernels::DecodedToken{.q = d.q.view(),
                                .k = d.k.view(),
                                .v = d.v.view(),
                                .slots = d.slots.view(),
                                .position = static_cast<int32_t>(used - 1),
                                .cache = d.Cache(storage, used),
                                .out = d.out.view(),
                                .victims = d.victims.view(),
                                .sink_tokens = 2,
                                .recent_tokens = 8});
      if (tokens.size() % 2 == 0) continue;
      t.scores = d.scores.view();
      t.growth = d.growth.view();
    }
    if (status.ok()) {
      status = backend.CacheDecode(
          {.tokens = tokens,
           .scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim))});
    }
    for (size_t i = 0; i < all.size(); ++i) {
      out->push_back(all[i].out);
      // By score the order of near ones may differ between backends.
      if (i % 2 == 1) out->push_back(all[i].positions);
      if (i % 2 == 0) out->push_back(all[i].growth);
    }
    return status;
  };
  const Tolerance near = AttentionTolerance(s.head_dim, kLargestScore);
  Tolerance sums = near;
  sums.of_largest += SumTolerance(s.heads * 64).of_largest;
  std::vector<Tolerance> tolerances;
  for (size_t i = 0; i < lengths.size(); ++i) {
    tolerances.push_back(near);
    tolerances.push_back(i % 2 == 1 ? kExact : sums);
  }
  checker->Check("cache_decode",
                 Text(s) + " storage " +
                     std::to_string(static_cast<int>(storage)) + " batch " +
                     std::to_string(lengths.size()),
                 run, tolerances);
}

}  // namespace

void CheckAttentionOps(Checker* checker, bool quick) {
  CheckPatterns(checker, {4, 2, 64}, DType::kBF16);
  CheckCache(checker, {4, 2, 64}, DType::kBF16, 70, 3, kF32);
  CheckCache(checker, {4, 2, 64}, DType::kBF16, 70, 3, DType::kBF16);
  CheckDecode(checker, {4, 2, 64}, DType::kBF16, {1, 300, 40});
  if (quick) return;
  for (const Shape& s : {Shape{4, 4, 128}, Shape{8, 2, 128}, Shape{2, 1, 32},
                         Shape{2, 2, 256}, Shape{4, 1, 96}, Shape{3, 1, 40}}) {
    CheckPatterns(checker, s, DType::kBF16);
    CheckPatterns(checker, s, kF32);
    for (const DType storage : {kF32, DType::kBF16, DType::kI8}) {
      for (int64_t tokens : {1, 5, 64, 200}) {
        CheckCache(checker, s, storage, 400, tokens, kF32);
        CheckCache(checker, s, storage, 400, tokens, DType::kBF16);
      }
      CheckDecode(checker, s, storage, {700, 1, 128, 5000, 129, 33});
    }
  }
}

}  // namespace sinklora::gpu_check
