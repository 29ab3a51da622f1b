// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cache_attention/cache_reference.h"
#include "kernels/cache_attention/int8_row.h"
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

void StoreRow(const ConstTensorView& from, int64_t t, int64_t h, int64_t slot,
              const TensorView& to, const TensorView& scale) {
  const int64_t head_dim = from.shape[2];
  if (to.dtype != DType::kI8) {
    for (int64_t d = 0; d < head_dim; ++d) {
      Store(to, Load(from, t, h, d), h, slot, d);
    }
    return;
  }
  const float* row = from.as<float>() + t * from.stride[0] + h * from.stride[1];
  int8_t* codes = to.as<int8_t>() + h * to.stride[0] + slot * to.stride[1];
  Store(scale, EncodeInt8Row(row, head_dim, codes), h, slot);
}

void MoveRow(const TensorView& x, const TensorView& scale, int64_t h,
             int64_t from, int64_t to) {
  if (x.dtype == DType::kI8) {
    int8_t* head = x.as<int8_t>() + h * x.stride[0];
    for (int64_t d = 0; d < x.shape[2]; ++d) {
      head[to * x.stride[1] + d] = head[from * x.stride[1] + d];
    }
    Store(scale, Load(scale, h, from), h, to);
    return;
  }
  for (int64_t d = 0; d < x.shape[2]; ++d) {
    Store(x, Load(x, h, from, d), h, to, d);
  }
}

void AttendRow(const CacheAttentionParams& p, int64_t t, int64_t h) {
  const int64_t kv = h * p.cache.k.shape[0] / p.q.shape[1];
  const int32_t position = LoadInt(p.position, t);
  std::vector<double> weight(p.cache.used, 0.0);
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < p.cache.used; ++j) {
    if (!Visible(p.cache, p.window, kv, j, position)) continue;
    weight[j] = p.scale * Dot(p.q, p.cache, t, h, kv, j);
    top = std::max(top, weight[j]);
  }
  double sum = 0.0;
  for (int64_t j = 0; j < p.cache.used; ++j) {
    const bool visible = Visible(p.cache, p.window, kv, j, position);
    weight[j] = visible ? std::exp(weight[j] - top) : 0.0;
    sum += weight[j];
  }
  for (int64_t d = 0; d < p.q.shape[2]; ++d) {
    double out = 0.0;
    for (int64_t j = 0; j < p.cache.used; ++j) {
      if (weight[j] == 0.0) continue;
      out += weight[j] * Stored(p.cache.v, p.cache.v_scale, kv, j, d);
    }
    Store(p.out, out / sum, t, h, d);
  }
  if (!p.lse.empty()) Store(p.lse, top + std::log(sum), h, t);
}

}  // namespace

void CacheWrite(const CacheWriteParams& p) {
  for (int64_t h = 0; h < p.k.shape[1]; ++h) {
    for (int64_t t = 0; t < p.k.shape[0]; ++t) {
      const int64_t slot = LoadInt(p.slots, h, t);
      StoreRow(p.k, t, h, slot, p.cache.k, p.cache.k_scale);
      StoreRow(p.v, t, h, slot, p.cache.v, p.cache.v_scale);
      p.cache.positions.as<int32_t>()[h * p.cache.positions.stride[0] + slot] =
          LoadInt(p.position, t);
    }
  }
}

void CacheAttention(const CacheAttentionParams& p) {
  for (int64_t t = 0; t < p.q.shape[0]; ++t) {
    for (int64_t h = 0; h < p.q.shape[1]; ++h) AttendRow(p, t, h);
  }
}

// Sums are carried in f32 from query to query, as the contract's order asks,
// so that chunks give the same bits here too.
void CacheColumnSums(const CacheColumnSumsParams& p) {
  const int64_t heads = p.q.shape[1];
  const int64_t group = heads / p.cache.k.shape[0];
  for (int64_t kv = 0; kv < p.cache.k.shape[0]; ++kv) {
    for (int64_t j = 0; j < p.cache.used; ++j) {
      for (int64_t t = 0; t < p.q.shape[0]; ++t) {
        const int32_t position = LoadInt(p.position, t);
        if (!Visible(p.cache, p.window, kv, j, position)) continue;
        for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
          const double probability = std::exp(
              p.scale * Dot(p.q, p.cache, t, h, kv, j) - Load(p.lse, h, t));
          Store(p.scores, Load(p.scores, kv, j) + probability, kv, j);
        }
      }
    }
  }
}

void CacheCompact(const CacheCompactParams& p) {
  const int64_t kept = p.keep.shape[1];
  for (int64_t h = 0; h < p.cache.k.shape[0]; ++h) {
    int32_t* positions =
        p.cache.positions.as<int32_t>() + h * p.cache.positions.stride[0];
    for (int64_t i = 0; i < kept; ++i) {
      const int64_t from = LoadInt(p.keep, h, i);
      MoveRow(p.cache.k, p.cache.k_scale, h, from, i);
      MoveRow(p.cache.v, p.cache.v_scale, h, from, i);
      positions[i] = positions[from];
      if (!p.scores.empty()) Store(p.scores, Load(p.scores, h, from), h, i);
    }
    for (int64_t i = kept; i < p.cache.k.shape[1]; ++i) {
      positions[i] = -1;
      if (!p.scores.empty()) Store(p.scores, 0.0, h, i);
    }
  }
}

}  // namespace sinklora::kernels::reference
