// SPDX-License-Identifier: Apache-2.0
#include "kernels/cache_decode/cache_decode_validate.h"

#include <cmath>
#include <string>
#include <utility>

#include "kernels/cache_attention/cache_attention_validate.h"
#include "kernels/validator.h"

namespace sinklora::kernels {
namespace {

void CheckBookkeeping(const DecodedToken& t, Validator* check) {
  const Extent kv_heads{t.cache.k.shape[0], "kv heads of cache.k"};
  const Extent slots{t.cache.k.shape[1], "slots of cache.k"};
  check->OptionalTensor("scores", t.scores, kF32, {kv_heads, slots})
      .OptionalTensor("growth", t.growth, kF32, {kv_heads})
      .Value(t.scores.empty() == t.growth.empty(), "growth elements",
             t.growth.empty() ? int64_t{0} : t.growth.num_elements(),
             "given with scores and only with them")
      .OptionalTensor("victims", t.victims, kI32, {kv_heads})
      .Value(t.sink_tokens >= 0, "sink_tokens", t.sink_tokens, ">= 0")
      .Value(t.recent_tokens >= 0, "recent_tokens", t.recent_tokens, ">= 0");
}

void CheckFamily(const DecodedToken& t, const DecodedToken& first,
                 Validator* check) {
  const auto same = [&](const char* field, int64_t value, int64_t wanted) {
    if (value == wanted) return;
    check->Value(false, field, value,
                 std::to_string(wanted) + " (as of the first token)");
  };
  same("q.shape[0]", t.q.shape[0], first.q.shape[0]);
  same("cache.k.shape[0]", t.cache.k.shape[0], first.cache.k.shape[0]);
  same("cache.k.shape[2]", t.cache.k.shape[2], first.cache.k.shape[2]);
  same("bytes of an element of cache.k", SizeOf(t.cache.k.dtype),
       SizeOf(first.cache.k.dtype));
}

void CheckToken(const DecodedToken& t, Validator* check) {
  const Extent heads{t.q.shape[0], "heads of q"};
  const Extent kv_heads{t.cache.k.shape[0], "kv heads of cache.k"};
  const Extent dim{t.cache.k.shape[2], "head_dim of cache.k"};
  CheckCache(t.cache, check);
  check->Tensor("q", t.q, kF32, {kAny, dim})
      .Tensor("k", t.k, kF32, {kv_heads, dim})
      .Tensor("v", t.v, kF32, {kv_heads, dim})
      .Tensor("slots", t.slots, kI32, {kv_heads})
      .Tensor("out", t.out, kF32, {heads, dim})
      .Value(t.position >= 0, "position", int64_t{t.position}, ">= 0")
      .Value(t.q.shape[0] >= 1, "q.shape[0]", t.q.shape[0], ">= 1")
      .Value(t.cache.used >= 1, "cache.used", t.cache.used, ">= 1");
  if (!check->ok()) return;
  if (t.q.shape[0] % t.cache.k.shape[0] != 0) {
    check->Value(false, "q.shape[0]", t.q.shape[0],
                 "a multiple of " + std::to_string(t.cache.k.shape[0]) +
                     " (kv heads of cache.k)");
  }
  CheckBookkeeping(t, check);
  check->Range("slots", t.slots, 0, t.cache.used);
}

// Says which of the tokens the message is about.
Status OfToken(const Status& status, size_t index) {
  std::string message = status.message();
  message.insert(message.find(": ") + 2,
                 "tokens[" + std::to_string(index) + "].");
  return InvalidArgument(std::move(message));
}

}  // namespace

Status Validate(const CacheDecodeParams& p, Values values) {
  Validator check("cache_decode", values);
  check.Value(std::isfinite(p.scale), "scale", p.scale, "finite")
      .Value(p.window >= 0, "window", p.window, ">= 0");
  if (!check.ok()) return check.status();
  for (size_t i = 0; i < p.tokens.size(); ++i) {
    CheckToken(p.tokens[i], &check);
    if (check.ok()) CheckFamily(p.tokens[i], p.tokens[0], &check);
    if (!check.ok()) return OfToken(check.status(), i);
  }
  return check.status();
}

}  // namespace sinklora::kernels
