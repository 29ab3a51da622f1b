// SPDX-License-Identifier: Apache-2.0
#include "kernels/cache_attention/cache_attention_validate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/validator.h"

namespace sinklora::kernels {

void CheckCache(const CacheView& cache, Validator* check) {
  const Extent kv_heads{cache.k.shape[0], "kv heads of cache.k"};
  const Extent slots{cache.k.shape[1], "slots of cache.k"};
  const Extent dim{cache.k.shape[2], "head_dim of cache.k"};
  check->Tensor("cache.k", cache.k, kFloat | kI8, {kAny, kAny, kAny})
      .Tensor("cache.v", cache.v, 1u << static_cast<int>(cache.k.dtype),
              {kv_heads, slots, dim})
      .Tensor("cache.positions", cache.positions, kI32, {kv_heads, slots})
      .Value(cache.used >= 0 && cache.used <= slots.size, "cache.used",
             cache.used, "in [0, " + std::to_string(slots.size) + "]")
      .Value(kv_heads.size >= 1, "cache.k.shape[0]", kv_heads.size, ">= 1")
      .Value(dim.size % 8 == 0 && dim.size >= 8 && dim.size <= 256,
             "cache.k.shape[2]", dim.size, "a multiple of 8 in [8, 256]");
  for (const auto& [name, scale] : {std::pair{"cache.k_scale", &cache.k_scale},
                                    {"cache.v_scale", &cache.v_scale}}) {
    if (cache.k.dtype == DType::kI8) {
      check->Tensor(name, *scale, kF32, {kv_heads, slots});
    } else {
      check->Value(scale->empty(), std::string(name) + " elements",
                   scale->num_elements(), "none without i8 storage");
    }
  }
}

namespace {

void CheckQueries(const ConstTensorView& q, const ConstTensorView& position,
                  const CacheView& cache, float scale, int64_t window,
                  DType product_dtype, Validator* check) {
  CheckCache(cache, check);
  check
      ->Tensor("q", q, kF32,
               {kAny, kAny, {cache.k.shape[2], "head_dim of cache.k"}})
      .Tensor("position", position, kI32, {{q.shape[0], "tokens of q"}})
      .Value(std::isfinite(scale), "scale", scale, "finite")
      .Value(window >= 0, "window", window, ">= 0")
      .Value(product_dtype == DType::kF32 || product_dtype == DType::kBF16,
             "product_dtype", static_cast<int64_t>(product_dtype),
             "f32 or bf16");
  if (!check->ok()) return;
  check->Value(q.shape[1] % cache.k.shape[0] == 0, "q.shape[1]", q.shape[1],
               "a multiple of " + std::to_string(cache.k.shape[0]) +
                   " (kv heads of cache.k)");
}

// A token sees slots with positions in [0, its own], of which a window leaves
// the last ones: the largest of them decides, or without one the smallest
// position stored in a head for all tokens at once.
void CheckVisible(const ConstTensorView& position, const CacheView& cache,
                  int64_t window, Validator* check) {
  if (!check->may_read()) return;
  const int32_t* token = position.as<int32_t>();
  std::vector<int32_t> held;
  for (int64_t h = 0; h < cache.k.shape[0]; ++h) {
    held.clear();
    const int32_t* stored =
        cache.positions.as<int32_t>() + h * cache.positions.stride[0];
    for (int64_t j = 0; j < cache.used; ++j) {
      if (stored[j] < 0) continue;
      if (window > 0 || held.empty()) {
        held.push_back(stored[j]);
      } else {
        held[0] = std::min(held[0], stored[j]);
      }
    }
    std::sort(held.begin(), held.end());
    for (int64_t t = 0; t < position.shape[0]; ++t) {
      const int32_t at = token[t * position.stride[0]];
      const auto after = std::upper_bound(held.begin(), held.end(), at);
      const bool sees =
          after != held.begin() && (window == 0 || at - *(after - 1) < window);
      check->Value(sees, "position[" + std::to_string(t) + "]", int64_t{at},
                   "at least the position of one slot of kv head " +
                       std::to_string(h) + " (no visible slot)");
      if (!check->ok()) return;
    }
  }
}

}  // namespace

Status Validate(const CacheWriteParams& p, Values values) {
  const Extent tokens{p.k.shape[0], "tokens of k"};
  const Extent kv_heads{p.cache.k.shape[0], "kv heads of cache.k"};
  const Extent dim{p.cache.k.shape[2], "head_dim of cache.k"};
  Validator check("cache_write", values);
  CheckCache(p.cache, &check);
  check.Tensor("k", p.k, kF32, {kAny, kv_heads, dim})
      .Tensor("v", p.v, kF32, {tokens, kv_heads, dim})
      .Tensor("position", p.position, kI32, {tokens})
      .Tensor("slots", p.slots, kI32, {kv_heads, tokens})
      .Range("position", p.position, 0,
             int64_t{std::numeric_limits<int32_t>::max()} + 1)
      .Range("slots", p.slots, 0, p.cache.k.shape[1]);
  return check.status();
}

Status Validate(const CacheAttentionParams& p, Values values) {
  const Extent tokens{p.q.shape[0], "tokens of q"};
  const Extent heads{p.q.shape[1], "heads of q"};
  Validator check("cache_attention", values);
  CheckQueries(p.q, p.position, p.cache, p.scale, p.window, p.product_dtype,
               &check);
  check
      .Tensor("out", p.out, kF32,
              {tokens, heads, {p.q.shape[2], "head_dim of q"}})
      .OptionalTensor("lse", p.lse, kF32, {heads, tokens});
  CheckVisible(p.position, p.cache, p.window, &check);
  return check.status();
}

Status Validate(const CacheColumnSumsParams& p) {
  const Extent tokens{p.q.shape[0], "tokens of q"};
  const Extent heads{p.q.shape[1], "heads of q"};
  Validator check("cache_column_sums");
  CheckQueries(p.q, p.position, p.cache, p.scale, p.window, p.product_dtype,
               &check);
  check.Tensor("lse", p.lse, kF32, {heads, tokens})
      .Tensor("scores", p.scores, kF32,
              {{p.cache.k.shape[0], "kv heads of cache.k"},
               {p.cache.k.shape[1], "slots of cache.k"}});
  return check.status();
}

Status Validate(const CacheCompactParams& p, Values values) {
  const Extent kv_heads{p.cache.k.shape[0], "kv heads of cache.k"};
  Validator check("cache_compact", values);
  CheckCache(p.cache, &check);
  check
      .OptionalTensor("scores", p.scores, kF32,
                      {kv_heads, {p.cache.k.shape[1], "slots of cache.k"}})
      .Tensor("keep", p.keep, kI32, {kv_heads, kAny})
      .Range("keep", p.keep, 0, p.cache.k.shape[1]);
  if (!check.may_read()) return check.status();
  for (int64_t h = 0; h < p.keep.shape[0]; ++h) {
    const int32_t* keep = p.keep.as<int32_t>() + h * p.keep.stride[0];
    for (int64_t i = 1; i < p.keep.shape[1]; ++i) {
      check.Value(keep[i] > keep[i - 1],
                  "keep[" + std::to_string(h) + "][" + std::to_string(i) + "]",
                  int64_t{keep[i]},
                  "> " + std::to_string(keep[i - 1]) + " (strictly ascending)");
    }
  }
  return check.status();
}

}  // namespace sinklora::kernels
