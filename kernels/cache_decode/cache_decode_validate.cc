// SPDX-License-Identifier: Apache-2.0
#include "kernels/cache_decode/cache_decode_validate.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/cache_attention/cache_attention_validate.h"
#include "kernels/validator.h"

namespace sinklora::kernels {
namespace {

bool SeesASlot(const CacheDecodeParams& p, int64_t kv_head) {
  const int64_t first =
      p.window == 0 ? 0 : std::max<int64_t>(0, p.position - p.window + 1);
  const int32_t* held =
      p.cache.positions.as<int32_t>() + kv_head * p.cache.positions.stride[0];
  return std::any_of(held, held + p.cache.used, [&](int32_t at) {
    return at >= first && at <= p.position;
  });
}

void CheckBookkeeping(const CacheDecodeParams& p, Validator* check) {
  const Extent kv_heads{p.cache.k.shape[0], "kv heads of cache.k"};
  const Extent slots{p.cache.k.shape[1], "slots of cache.k"};
  check->OptionalTensor("scores", p.scores, kF32, {kv_heads, slots})
      .OptionalTensor("growth", p.growth, kF32, {kv_heads})
      .Value(p.scores.empty() == p.growth.empty(), "growth elements",
             p.growth.empty() ? int64_t{0} : p.growth.num_elements(),
             "given with scores and only with them")
      .OptionalTensor("victims", p.victims, kI32, {kv_heads})
      .Value(p.sink_tokens >= 0, "sink_tokens", p.sink_tokens, ">= 0")
      .Value(p.recent_tokens >= 0, "recent_tokens", p.recent_tokens, ">= 0");
}

}  // namespace

Status Validate(const CacheDecodeParams& p, Values values) {
  const Extent heads{p.q.shape[0], "heads of q"};
  const Extent dim{p.cache.k.shape[2], "head_dim of cache.k"};
  Validator check("cache_decode");
  CheckCache(p.cache, &check);
  check.Tensor("q", p.q, kF32, {kAny, dim})
      .Tensor("out", p.out, kF32, {heads, dim})
      .Value(p.position >= 0, "position", int64_t{p.position}, ">= 0")
      .Value(std::isfinite(p.scale), "scale", p.scale, "finite")
      .Value(p.window >= 0, "window", p.window, ">= 0");
  if (!check.ok()) return check.status();
  check.Value(p.q.shape[0] % p.cache.k.shape[0] == 0, "q.shape[0]",
              p.q.shape[0],
              "a multiple of " + std::to_string(p.cache.k.shape[0]) +
                  " (kv heads of cache.k)");
  CheckBookkeeping(p, &check);
  if (values == Values::kOnDevice) return check.status();
  for (int64_t h = 0; h < p.cache.k.shape[0] && check.ok(); ++h) {
    check.Value(SeesASlot(p, h), "position", int64_t{p.position},
                "at least the position of one slot of kv head " +
                    std::to_string(h) + " (no visible slot)");
  }
  return check.status();
}

}  // namespace sinklora::kernels
