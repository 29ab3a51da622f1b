// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/attention/attention_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/backends.h"

namespace sinklora::kernels {

using testing::HostTensor;

std::vector<std::string> PatternNames() {
  // Windows below, at and beyond the edge of a tile of 64.
  return {"full",  "short",     "s2",           "s2_sinks", "sr", "full_w3",
          "sf_w6", "short_w64", "s2_sinks_w20", "full_w70", "sf"};
}

std::unique_ptr<Backend> OpenFor(const std::string& name) {
  return Open(name == "reference" ? name : kTested);
}

DType ProductOf(const std::string& name) {
  return name == "bf16" ? DType::kBF16 : DType::kF32;
}

NamedPattern MakePattern(const std::string& full_name, int64_t heads,
                         int64_t group_size,
                         const std::vector<int64_t>& lengths, int64_t gap) {
  NamedPattern named{full_name, {}};
  const size_t window = full_name.find("_w");
  const std::string name = full_name.substr(0, window);
  if (window != std::string::npos) {
    named.pattern.window = std::stoll(full_name.substr(window + 2));
  }
  int64_t begin = 0;
  for (int64_t length : lengths) {
    const int64_t group =
        name == "full" ? std::max<int64_t>(1, length) : group_size;
    named.pattern.segments.push_back({begin, length, group});
    begin += length + gap;
  }
  if (name == "s2" || name == "s2_sinks") {
    named.pattern.shifted_heads = heads / 2;
  }
  if (name == "sr" || name == "sf") {
    // return_ratio 1/2
    named.pattern.shifted_heads = std::lround(0.5 * heads / 2.0);
  }
  if (name == "s2_sinks" || name == "sf") named.pattern.sink_tokens = 4;
  return named;
}

AttentionInputs MakeInputs(int64_t tokens, int64_t heads, int64_t kv_heads,
                           int64_t head_dim, uint64_t seed, int64_t padding,
                           double score_scale) {
  AttentionInputs in;
  in.q = HostTensor::Random(DType::kF32, {tokens, heads, head_dim}, seed,
                            score_scale, padding);
  in.k = HostTensor::Random(DType::kF32, {tokens, kv_heads, head_dim}, seed + 1,
                            1.0, padding);
  in.v = HostTensor::Random(DType::kF32, {tokens, kv_heads, head_dim}, seed + 2,
                            1.0, padding);
  in.dout = HostTensor::Random(DType::kF32, {tokens, heads, head_dim}, seed + 3,
                               1.0, padding);
  in.scale = static_cast<float>(1.0 / std::sqrt(double(head_dim)));
  return in;
}

AttentionInputs Pick(const AttentionInputs& in,
                     const std::vector<int64_t>& tokens, int64_t lead) {
  AttentionInputs out = in;
  const auto pick = [&](const HostTensor& from, int64_t skipped) {
    const auto shape = from.view().shape;
    const auto count = static_cast<int64_t>(tokens.size());
    HostTensor to = HostTensor::NaNs(DType::kF32, {count, shape[1], shape[2]});
    for (int64_t t = skipped; t < count; ++t) {
      for (int64_t h = 0; h < shape[1]; ++h) {
        for (int64_t d = 0; d < shape[2]; ++d) {
          to.Set(from.Get(tokens[t], h, d), t, h, d);
        }
      }
    }
    return to;
  };
  out.q = pick(in.q, lead);
  out.dout = pick(in.dout, lead);
  out.k = pick(in.k, 0);
  out.v = pick(in.v, 0);
  return out;
}

AttentionResults RunForward(Backend& backend, const AttentionInputs& in,
                            const AttentionPattern& pattern, int64_t padding) {
  const auto shape = in.q.view().shape;
  AttentionResults r;
  r.out =
      HostTensor::NaNs(DType::kF32, {shape[0], shape[1], shape[2]}, padding);
  r.lse = HostTensor::NaNs(DType::kF32, {shape[1], shape[0]}, padding);
  EXPECT_TRUE(
      Ok(backend.AttentionForward({.q = in.q.view(),
                                   .k = in.k.view(),
                                   .v = in.v.view(),
                                   .pattern = &pattern,
                                   .scale = in.scale,
                                   .out = r.out.view(),
                                   .lse = r.lse.view(),
                                   .product_dtype = in.product_dtype})));
  EXPECT_TRUE(r.out.GapsUntouched() && r.lse.GapsUntouched());
  return r;
}

AttentionResults RunBoth(Backend& backend, const AttentionInputs& in,
                         const AttentionPattern& pattern, int64_t padding) {
  AttentionResults r = RunForward(backend, in, pattern, padding);
  const auto q = in.q.view().shape;
  const auto k = in.k.view().shape;
  r.dq = HostTensor::NaNs(DType::kF32, {q[0], q[1], q[2]}, padding);
  r.dk = HostTensor::NaNs(DType::kF32, {k[0], k[1], k[2]}, padding);
  r.dv = HostTensor::NaNs(DType::kF32, {k[0], k[1], k[2]}, padding);
  EXPECT_TRUE(
      Ok(backend.AttentionBackward({.dout = in.dout.view(),
                                    .q = in.q.view(),
                                    .k = in.k.view(),
                                    .v = in.v.view(),
                                    .out = r.out.view(),
                                    .lse = r.lse.view(),
                                    .pattern = &pattern,
                                    .scale = in.scale,
                                    .dq = r.dq.view(),
                                    .dk = r.dk.view(),
                                    .dv = r.dv.view(),
                                    .product_dtype = in.product_dtype})));
  EXPECT_TRUE(r.dq.GapsUntouched() && r.dk.GapsUntouched() &&
              r.dv.GapsUntouched());
  return r;
}

}  // namespace sinklora::kernels
