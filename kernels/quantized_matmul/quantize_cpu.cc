// Packs matrices of 8 and 4 bits, a panel a task, with a row in each lane.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/quantized_matmul/int4_search.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_matmul/quantize_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

using I32Tag = hn::RebindToSigned<F32Tag>;
using U32Tag = hn::RebindToUnsigned<F32Tag>;

// The level nearest to x.
HWY_INLINE F32Vec NearestLevel(F32Vec x) {
  const F32Tag d;
  F32Vec level = hn::Set(d, kInt4Levels[0]);
  for (size_t i = 0; i < kInt4Middles.size(); ++i) {
    const auto step =
        hn::Set(d, static_cast<float>(kInt4Levels[i + 1] - kInt4Levels[i]));
    const auto above = hn::Gt(x, hn::Set(d, kInt4Middles[i]));
    level = hn::Add(level, hn::IfThenElseZero(above, step));
  }
  return level;
}

HWY_INLINE hn::Vec<U32Tag> NearestCode(F32Vec x) {
  const F32Tag d;
  const U32Tag du;
  auto code = hn::Zero(du);
  for (const float middle : kInt4Middles) {
    const auto above = hn::RebindMask(du, hn::Gt(x, hn::Set(d, middle)));
    code = hn::Add(code, hn::IfThenElseZero(above, hn::Set(du, 1u)));
  }
  return code;
}

// Weights of lanes' rows: column c at tile + c * kQuantizedPanel.
struct Lanes {
  const float* tile;
  F32Vec Column(int64_t c) const {
    return hn::LoadU(F32Tag(), tile + c * kQuantizedPanel);
  }
};

// The weight of the largest magnitude of each row.
HWY_INLINE F32Vec Largest(const Lanes& w) {
  const F32Tag d;
  F32Vec high = hn::Zero(d), low = hn::Zero(d);
  for (int64_t c = 0; c < kQuantizedBlock; ++c) {
    high = hn::Max(high, w.Column(c));
    low = hn::Min(low, w.Column(c));
  }
  return hn::IfThenElse(hn::Ge(high, hn::Neg(low)), high, low);
}

// Scale over top of the smallest squared error; weights times `inverse_top` lie
// in [-1, 1], `sign` is that of the largest.
HWY_INLINE F32Vec BestInt4Scale(const Lanes& w, F32Vec inverse_top,
                                F32Vec sign) {
  const F32Tag d;
  F32Vec best = hn::Zero(d);
  F32Vec least = hn::Set(d, 1e30f);
  const auto consider = [&](F32Vec scale, F32Vec product, F32Vec square) {
    // The error less the weights' own squares, which all candidates share.
    const F32Vec error = hn::Mul(scale, hn::NegMulAdd(hn::Set(d, 2.0f), product,
                                                      hn::Mul(scale, square)));
    const auto better = hn::Lt(error, least);
    least = hn::IfThenElse(better, error, least);
    best = hn::IfThenElse(better, scale, best);
  };
  for (const float outer : kInt4OuterLevels) {
    for (const float factor : kInt4Factors) {
      const F32Vec scale = hn::Mul(sign, hn::Set(d, factor / outer));
      const F32Vec inverse =
          hn::Mul(hn::Mul(sign, hn::Set(d, outer / factor)), inverse_top);
      F32Vec product = hn::Zero(d), square = hn::Zero(d);
      for (int64_t c = 0; c < kQuantizedBlock; ++c) {
        const F32Vec x = w.Column(c);
        const F32Vec level = NearestLevel(hn::Mul(x, inverse));
        product = hn::MulAdd(hn::Mul(x, inverse_top), level, product);
        square = hn::MulAdd(level, level, square);
      }
      consider(scale, product, square);
      // The largest weight has an outer level, so `square` is not 0.
      consider(hn::Div(product, square), product, square);
    }
  }
  return best;
}

HWY_INLINE F32Vec RoundToBf16(F32Vec x) {
  const F32Tag d;
  HWY_ALIGN bf16_t bits[HWY_MAX_BYTES / sizeof(float)];
  StoreBf16(x, d, bits);
  return LoadBf16(d, bits);
}

HWY_INLINE void StoreInt8(const Lanes& w, F32Vec scale, uint32_t* codes) {
  const F32Tag d;
  const I32Tag di;
  const U32Tag du;
  const auto most = hn::Set(di, 127);
  const auto none = hn::Eq(scale, hn::Zero(d));
  for (int64_t g = 0; g < kQuantizedBlock / 4; ++g) {
    auto word = hn::Zero(du);
    for (int64_t j = 3; j >= 0; --j) {
      const F32Vec x =
          hn::IfThenZeroElse(none, hn::Div(w.Column(4 * g + j), scale));
      const auto code =
          hn::Max(hn::Min(hn::NearestInt(x), most), hn::Neg(most));
      word = hn::Or(hn::ShiftLeft<8>(word),
                    hn::And(hn::BitCast(du, code), hn::Set(du, 0xffu)));
    }
    hn::StoreU(word, du, codes + g * kQuantizedPanel);
  }
}

HWY_INLINE void StoreInt4(const Lanes& w, F32Vec scale, uint32_t* codes) {
  const F32Tag d;
  const U32Tag du;
  const auto none = hn::Eq(scale, hn::Zero(d));
  for (int64_t g = 0; g < kQuantizedBlock / 8; ++g) {
    auto word = hn::Zero(du);
    for (int64_t j = 7; j >= 0; --j) {
      const F32Vec x =
          hn::IfThenZeroElse(none, hn::Div(w.Column(8 * g + j), scale));
      word = hn::Or(hn::ShiftLeft<4>(word), NearestCode(x));
    }
    hn::StoreU(word, du, codes + g * kQuantizedPanel);
  }
}

// One record from its weights, [kQuantizedBlock][kQuantizedPanel].
void QuantizeRecord(const float* tile, QuantizedFormat format, char* record) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  auto* scales = reinterpret_cast<bf16_t*>(record);
  char* codes = record + kQuantizedScaleBytes;
  for (int64_t r = 0; r < kQuantizedPanel; r += lanes) {
    const Lanes w{tile + r};
    const F32Vec largest = Largest(w);
    const F32Vec top = hn::Abs(largest);
    const auto tiny = hn::Lt(top, hn::Set(d, kQuantizedTiny));
    const F32Vec one = hn::Set(d, 1.0f);
    F32Vec scale;
    if (format == QuantizedFormat::kInt8) {
      scale = hn::Div(top, hn::Set(d, 127.0f));
    } else {
      const F32Vec inverse = hn::Div(one, hn::IfThenElse(tiny, one, top));
      const F32Vec sign = hn::CopySign(one, largest);
      scale = hn::Mul(BestInt4Scale(w, inverse, sign), top);
    }
    scale = RoundToBf16(hn::IfThenZeroElse(tiny, scale));
    StoreBf16(scale, d, scales + r);
    if (format == QuantizedFormat::kInt8) {
      StoreInt8(w, scale, reinterpret_cast<uint32_t*>(codes) + r);
    } else {
      StoreInt4(w, scale, reinterpret_cast<uint32_t*>(codes) + r);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(QuantizeRecord);

namespace {

// Weights of a panel and block, zeros beyond the matrix, columns first.
void GatherTile(const ConstTensorView& w, int64_t panel, int64_t block,
                float* tile) {
  const int64_t row = panel * kQuantizedPanel;
  const int64_t col = block * kQuantizedBlock;
  const int64_t rows = std::min(kQuantizedPanel, w.shape[0] - row);
  const int64_t cols = std::min(kQuantizedBlock, w.shape[1] - col);
  if (rows < kQuantizedPanel || cols < kQuantizedBlock) {
    std::memset(tile, 0, kQuantizedPanel * kQuantizedBlock * sizeof(float));
  }
  float line[kQuantizedBlock];
  for (int64_t r = 0; r < rows; ++r) {
    CopyElements(
        w.as<char>() + ((row + r) * w.stride[0] + col) * SizeOf(w.dtype),
        w.dtype, line, DType::kF32, cols);
    for (int64_t c = 0; c < cols; ++c) tile[c * kQuantizedPanel + r] = line[c];
  }
}

}  // namespace

void Quantize(const QuantizeParams& p, CpuContext& context) {
  const QuantizedMatrix out{p.out, p.format, p.weight.shape[0],
                            p.weight.shape[1]};
  context.pool.Run(QuantizedPanels(out.rows), [&](int64_t panel, int) {
    float tile[kQuantizedPanel * kQuantizedBlock];
    for (int64_t b = 0; b < QuantizedBlocks(out.cols); ++b) {
      GatherTile(p.weight, panel, b, tile);
      HWY_DYNAMIC_DISPATCH(QuantizeRecord)
      (tile, p.format, const_cast<char*>(out.Record(panel, b)));
    }
  });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
