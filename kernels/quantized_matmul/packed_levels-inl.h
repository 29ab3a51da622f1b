// Reading packed matrices in vectors, a row of the matrix in each lane.
// Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_LEVELS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_LEVELS_INL_H_
#undef SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_LEVELS_INL_H_
#else
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_LEVELS_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/quantized_matmul/quantized_matrix.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

using U32Tag = hn::RebindToUnsigned<F32Tag>;
using U32Vec = hn::Vec<U32Tag>;

constexpr auto kInt8 = QuantizedFormat::kInt8;
constexpr auto kInt4 = QuantizedFormat::kInt4;

// Accumulators must fit the registers: 32 of them with AVX-512, else 16.
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;

HWY_ALIGN constexpr float kLevels[16] = {
    kInt4Levels[0],  kInt4Levels[1],  kInt4Levels[2],  kInt4Levels[3],
    kInt4Levels[4],  kInt4Levels[5],  kInt4Levels[6],  kInt4Levels[7],
    kInt4Levels[8],  kInt4Levels[9],  kInt4Levels[10], kInt4Levels[11],
    kInt4Levels[12], kInt4Levels[13], kInt4Levels[14], kInt4Levels[15]};

// Levels of the codes in the low 4 bits of each lane; higher bits may be set.
#if HWY_TARGET == HWY_AVX3
class LevelTable {
 public:
  LevelTable() : levels_(hn::Load(F32Tag(), kLevels)) {}
  // The instruction itself takes the low bits, which the wrapper asserts.
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    return F32Vec{_mm512_permutexvar_ps(codes.raw, levels_.raw)};
  }

 private:
  F32Vec levels_;
};
#elif HWY_TARGET == HWY_AVX2
class LevelTable {
 public:
  LevelTable()
      : low_(hn::Load(F32Tag(), kLevels)),
        high_(hn::Load(F32Tag(), kLevels + 8)) {}
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const F32Tag d;
    const auto index =
        hn::IndicesFromVec(d, hn::And(codes, hn::Set(U32Tag(), 7u)));
    const F32Vec is_high = hn::BitCast(d, hn::ShiftLeft<28>(codes));
    return hn::IfNegativeThenElse(is_high, hn::TableLookupLanes(high_, index),
                                  hn::TableLookupLanes(low_, index));
  }

 private:
  F32Vec low_, high_;
};
#else
class LevelTable {
 public:
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const F32Tag d;
    const hn::RebindToSigned<F32Tag> di;
    const auto index = hn::And(codes, hn::Set(U32Tag(), 15u));
    return hn::GatherIndex(d, kLevels, hn::BitCast(di, index));
  }
};
#endif

// Levels of the codes in the low bits of each lane; higher bits may be set.
template <QuantizedFormat kFormat>
struct LevelsOf : LevelTable {};
template <>
struct LevelsOf<kInt8> {
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const hn::RebindToSigned<F32Tag> di;
    return hn::ConvertTo(F32Tag(), hn::ShiftRight<24>(hn::BitCast(
                                       di, hn::ShiftLeft<24>(codes))));
  }
};

// Calls use(c, levels) for each column c in [0, count) of kVectors vectors of
// rows, levels of kBlocks neighbouring blocks. `codes` points at the first row.
template <QuantizedFormat kFormat, int kBlocks, class Use>
HWY_INLINE void ForEachColumn(const char* codes, int64_t count, Use use) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  constexpr int64_t kRecord = QuantizedRecordBytes(kFormat);
  // Columns that share a word.
  constexpr int64_t kShared = kFormat == kInt8 ? 4 : 8;
  const U32Tag du;
  const LevelsOf<kFormat> levels_of;
  for (int64_t g = 0; g < count; g += kShared) {
    U32Vec words[kBlocks][kVectors];
    for (int b = 0; b < kBlocks; ++b) {
      const auto* row = reinterpret_cast<const uint32_t*>(codes + b * kRecord) +
                        g / kShared * kQuantizedPanel;
      for (int v = 0; v < kVectors; ++v) {
        words[b][v] = hn::LoadU(du, row + v * lanes);
      }
    }
    const int64_t columns = HWY_MIN(kShared, count - g);
    for (int64_t j = 0; j < columns; ++j) {
      F32Vec levels[kBlocks][kVectors];
      for (int b = 0; b < kBlocks; ++b) {
        for (int v = 0; v < kVectors; ++v) {
          levels[b][v] = levels_of(words[b][v]);
          words[b][v] = hn::ShiftRight<32 / kShared>(words[b][v]);
        }
      }
      use(g + j, levels);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_LEVELS_INL_H_
