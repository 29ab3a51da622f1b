// The kernels of attention that move and add rows.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_host_cuda.h"

namespace sinklora::kernels::cuda {
namespace {

struct PackArgs {
  ConstTokenRows from;
  bf16_t* to;  // [heads / group, tokens, group, padded_dim]
  int64_t tokens;
  int heads, group, head_dim, padded_dim;
  float scale;
  bool only_finite;
  Marks marks{};  // set with only_finite, when given
};

// A thread eight elements.
SINKLORA_GLOBAL void PackKernel(PackArgs a) {
  const int units = a.padded_dim / 8;
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int64_t row = i / units;
  const int column = static_cast<int>(i % units) * 8;
  const int64_t t = row / a.heads;
  const int h = static_cast<int>(row % a.heads);
  if (t >= a.tokens) return;
  float x[8] = {};
  if (column < a.head_dim) {
    LoadEight(a.from.Row(t, h) + column, a.from.units, x);
  }
  bool bad = false;
  SINKLORA_UNROLL
  for (int j = 0; j < 8; ++j) {
    const bool drop = a.only_finite && !IsFinite(x[j]);
    bad = bad || drop;
    x[j] = drop ? 0.0f : x[j] * a.scale;
  }
  if (bad && a.marks.bad != nullptr) {
    // The same from every thread that writes.
    a.marks.bad[h * a.tokens + t] = 1;
    *a.marks.any = 1;
  }
  const int64_t packed = (h / a.group * a.tokens + t) * a.group + h % a.group;
  bf16_t* to = a.to + packed * a.padded_dim + column;
  *reinterpret_cast<uint4*>(to) = PackEight(x);
}

struct RowSumArgs {
  ConstTokenRows dout, out;
  const float* lse;  // [heads, tokens], rows lse_head apart
  int64_t lse_head, tokens;
  int heads, head_dim;
  float lse_factor;
  float* delta;       // [heads, tokens]: dout . out
  float* scaled_lse;  // [heads, tokens]: NaN where delta is not finite
};

// A warp a row of dout and out.
SINKLORA_GLOBAL void RowSumKernel(RowSumArgs a) {
  const int64_t i =
      (static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x) /
      kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t t = i / a.heads;
  const int h = static_cast<int>(i % a.heads);
  if (t >= a.tokens) return;
  const float* dout = a.dout.Row(t, h);
  const float* out = a.out.Row(t, h);
  float sum = 0.0f;
  for (int d = lane; d < a.head_dim; d += kWarpThreads) {
    sum = fmaf(dout[d], out[d], sum);
  }
  sum = SumOfLanes(sum);
  if (lane != 0) return;
  const float lse = a.lse[h * a.lse_head + t] * a.lse_factor;
  a.delta[h * a.tokens + t] = sum;
  a.scaled_lse[h * a.tokens + t] = IsFinite(sum) ? lse : sum - sum;
}

// Zeros for gaps [blockIdx.x] of x [tokens, heads, head_dim].
SINKLORA_GLOBAL void ZeroGapsKernel(const Gap* gaps, TokenRows x, int heads,
                                    int head_dim) {
  const Gap gap = gaps[blockIdx.x];
  const int64_t row = static_cast<int64_t>(heads) * head_dim;
  const int64_t end = (gap.end - gap.begin) * row;
  const int64_t step = static_cast<int64_t>(gridDim.y) * kPackThreads;
  for (int64_t i =
           static_cast<int64_t>(blockIdx.y) * kPackThreads + threadIdx.x;
       i < end; i += step) {
    const int64_t within = i % row;
    x.Row(gap.begin + i / row, within / head_dim)[within % head_dim] = 0.0f;
  }
}

// Sums the partial sums of sinks in their order.
struct SinkArgs {
  const SinkWork* sinks;  // block x
  const float* partials;  // [partials, kv_heads, 2, tile_rows, padded_dim]
  TokenRows dk, dv;
  int kv_heads, head_dim, tile_rows, padded_dim;
};

// Block (sink tile, kv head, dk or dv).
SINKLORA_GLOBAL void SinkSumKernel(SinkArgs a) {
  const SinkWork w = a.sinks[blockIdx.x];
  const int kv_head = static_cast<int>(blockIdx.y);
  const bool is_key = blockIdx.z == 0;
  const int64_t tile = static_cast<int64_t>(a.tile_rows) * a.padded_dim;
  const int64_t step = a.kv_heads * 2 * tile;
  const float* first =
      a.partials + w.first_partial * step + (kv_head * 2 + blockIdx.z) * tile;
  for (int i = static_cast<int>(threadIdx.x); i < w.rows * a.head_dim;
       i += static_cast<int>(blockDim.x)) {
    const int row = i / a.head_dim;
    const int column = i % a.head_dim;
    float sum = 0.0f;
    for (int p = 0; p < w.partials; ++p) {
      sum += first[p * step + row * a.padded_dim + column];
    }
    const int64_t token = w.token + w.begin + row;
    float* to = is_key ? a.dk.Row(token, kv_head) : a.dv.Row(token, kv_head);
    to[column] = sum;
  }
}

unsigned PackBlocks(int64_t threads) {
  return static_cast<unsigned>((threads + kPackThreads - 1) / kPackThreads);
}

}  // namespace

Status Pack(const char* name, const ConstTensorView& x, int padded_dim,
            float scale, bool only_finite, Marks marks, CudaContext& context,
            const bf16_t** out, int group) {
  const int64_t rows = x.shape[0] * x.shape[1];
  bf16_t* to = nullptr;
  Status status = context.Scratch(rows * padded_dim, &to);
  if (!status.ok()) return status;
  *out = to;
  const PackArgs args{.from = ConstTokenRowsOf(x),
                      .to = to,
                      .tokens = x.shape[0],
                      .heads = static_cast<int>(x.shape[1]),
                      .group = group,
                      .head_dim = static_cast<int>(x.shape[2]),
                      .padded_dim = padded_dim,
                      .scale = scale,
                      .only_finite = only_finite,
                      .marks = marks};
  return Launch(name, PackKernel,
                {.grid = dim3(PackBlocks(rows * (padded_dim / 8))),
                 .block = dim3(kPackThreads)},
                context.stream(), args);
}

Status MakeQueryGrid(const AttentionPattern& pattern, int64_t heads,
                     int64_t kv_heads, int64_t tile_rows, CudaContext& context,
                     QueryGrid* out) {
  const QueryPlan plan = PlanQueries(pattern, heads, tile_rows);
  out->plain_tiles = plan.plain_tiles;
  out->shifted_tiles = static_cast<int>(plan.tiles.size()) - plan.plain_tiles;
  out->plain_heads = static_cast<int>(heads - pattern.shifted_heads);
  out->shifted_heads = static_cast<int>(pattern.shifted_heads);
  out->group = static_cast<int>(heads / kv_heads);
  return Upload(plan.tiles, context, &out->tiles);
}

Status ZeroGaps(const AttentionPattern& pattern, bool leads,
                const std::vector<TensorView>& outputs, CudaContext& context) {
  if (outputs.empty()) return OkStatus();
  const std::vector<Gap> gaps = Gaps(pattern, outputs[0].shape[0], leads);
  if (gaps.empty()) return OkStatus();
  const Gap* on_device = nullptr;
  Status status = Upload(gaps, context, &on_device);
  for (const TensorView& x : outputs) {
    if (!status.ok()) return status;
    status = Launch("attention_zero_gaps", ZeroGapsKernel,
                    {.grid = dim3(static_cast<unsigned>(gaps.size()), 16),
                     .block = dim3(kPackThreads)},
                    context.stream(), on_device, TokenRowsOf(x),
                    static_cast<int>(x.shape[1]), static_cast<int>(x.shape[2]));
  }
  return status;
}

Status SumRows(const AttentionBackwardParams& p, float lse_factor,
               CudaContext& context, const float** lse, const float** delta) {
  const int64_t rows = p.q.shape[0] * p.q.shape[1];
  float* scaled = nullptr;
  float* sums = nullptr;
  Status status = context.Scratch(rows, &scaled);
  if (status.ok()) status = context.Scratch(rows, &sums);
  if (!status.ok()) return status;
  *lse = scaled;
  *delta = sums;
  const RowSumArgs args{.dout = ConstTokenRowsOf(p.dout),
                        .out = ConstTokenRowsOf(p.out),
                        .lse = p.lse.as<float>(),
                        .lse_head = p.lse.stride[0],
                        .tokens = p.q.shape[0],
                        .heads = static_cast<int>(p.q.shape[1]),
                        .head_dim = static_cast<int>(p.q.shape[2]),
                        .lse_factor = lse_factor,
                        .delta = sums,
                        .scaled_lse = scaled};
  return Launch("attention_row_sums", RowSumKernel,
                {.grid = dim3(PackBlocks(rows * kWarpThreads)),
                 .block = dim3(kPackThreads)},
                context.stream(), args);
}

Status AddSinks(const AttentionBackwardParams& p, const KeyGrid& grid,
                int tile_rows, int padded_dim, CudaContext& context) {
  const auto kv_heads = static_cast<unsigned>(p.k.shape[1]);
  const SinkArgs args{.sinks = grid.sinks,
                      .partials = grid.partials,
                      .dk = TokenRowsOf(p.dk),
                      .dv = TokenRowsOf(p.dv),
                      .kv_heads = static_cast<int>(kv_heads),
                      .head_dim = static_cast<int>(p.q.shape[2]),
                      .tile_rows = tile_rows,
                      .padded_dim = padded_dim};
  return Launch(
      "attention_sink_gradients", SinkSumKernel,
      {.grid = dim3(grid.sink_tiles, kv_heads, 2), .block = dim3(kPackThreads)},
      context.stream(), args);
}

}  // namespace sinklora::kernels::cuda
