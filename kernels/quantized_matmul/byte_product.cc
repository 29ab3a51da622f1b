// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantized_matmul/byte_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/rows.h"

#define SINKLORA_VNNI_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512vnni")))

namespace sinklora::kernels::cpu {
namespace {

constexpr int kVectors = 4;  // of 16 rows: a panel
constexpr int kMaxRows = 3;  // two sums a vector and row must fit the registers
constexpr int64_t kRowChunk = 16;
// Memory gives two streams more than one (on an Intel with AMX 36 GB/s of int4
// against 27, of 36 that there are), when each is asked for far ahead into the
// second cache, as the first has too few requests on their way, and then once
// more, nearer, into the first.
constexpr int64_t kFarBytes = 2560;
constexpr int64_t kNearBytes = 1152;
// The largest number whose high byte is not beyond 127.
constexpr float kLargestWhole = 127 * 256 + 127;

inline void AskFor(const char* far, const char* near, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(far + i, 0, 2);
    __builtin_prefetch(near + i, 0, 3);
  }
}

// The smallest power of two by which numbers up to `top` fit 16 bits.
float ScaleFor(float top) {
  int exponent = 0;
  std::frexp(top, &exponent);
  const float scale = std::ldexp(1.0f, exponent - 15);
  return top <= kLargestWhole * scale ? scale : 2.0f * scale;
}

// Bytes of 16 columns in the order of ByteBlock.
SINKLORA_VNNI_TARGET inline __m128i InOrder(__m512i numbers, bool int4) {
  const __m128i bytes = _mm512_cvtepi32_epi8(numbers);
  const __m128i order =
      _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return int4 ? _mm_shuffle_epi8(bytes, order) : bytes;
}

SINKLORA_VNNI_TARGET void PackBlock(const float* a, int64_t count, bool int4,
                                    ByteBlock* out) {
  const auto lanes = static_cast<uint32_t>((uint64_t{1} << count) - 1);
  const __m512 x[2] = {
      _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), a),
      _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes >> 16), a + 16)};
  constexpr int kNanOrInf = 0x01 | 0x08 | 0x10 | 0x80;
  const bool finite = (_mm512_fpclass_ps_mask(x[0], kNanOrInf) |
                       _mm512_fpclass_ps_mask(x[1], kNanOrInf)) == 0;
  const float top = _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1])));
  std::memset(out, 0, sizeof(*out));
  if (!finite) out->scale = std::numeric_limits<float>::quiet_NaN();
  if (!finite || top < kQuantizedTiny) return;
  out->scale = ScaleFor(top);
  const __m512 inverse = _mm512_set1_ps(1.0f / out->scale);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < 2; ++i) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse));
    sum = _mm512_add_epi32(sum, whole);
    const __m512i high =
        _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
    const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->high + 4 * i),
                     InOrder(high, int4));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->low + 4 * i),
                     InOrder(low, int4));
  }
  out->offset = -128 * _mm512_reduce_add_epi32(sum);
}

// Sums of products of one block, by row of a and vector of rows of b.
template <int kRows>
struct Sums {
  __m512i high[kRows][kVectors];
  __m512i low[kRows][kVectors];
};

// Adds the products of word `w` of the blocks with `levels` + 128.
template <int kRows>
SINKLORA_VNNI_TARGET inline __attribute__((always_inline)) void AddWord(
    const ByteBlock* a, int64_t a_stride, int w, int v, __m512i levels,
    Sums<kRows>& s) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const ByteBlock& x = a[r * a_stride];
    s.high[r][v] =
        _mm512_dpbusd_epi32(s.high[r][v], levels, _mm512_set1_epi32(x.high[w]));
    s.low[r][v] =
        _mm512_dpbusd_epi32(s.low[r][v], levels, _mm512_set1_epi32(x.low[w]));
  }
}

template <int kRows>
SINKLORA_VNNI_TARGET inline __attribute__((always_inline)) void AddInt8(
    const char* codes, const ByteBlock* a, int64_t a_stride, Sums<kRows>& s) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
#pragma GCC unroll 8
  for (int w = 0; w < 8; ++w) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i word = _mm512_loadu_si512(codes + (w * kVectors + v) * 64);
      AddWord(a, a_stride, w, v, _mm512_xor_si512(word, flip), s);
    }
  }
}

template <int kRows>
SINKLORA_VNNI_TARGET inline __attribute__((always_inline)) void AddInt4(
    const char* codes, const ByteBlock* a, int64_t a_stride, Sums<kRows>& s) {
  alignas(16) uint8_t table[16];
  for (int i = 0; i < 16; ++i) {
    table[i] = static_cast<uint8_t>(kInt4Levels[i] + 128);
  }
  const __m512i levels = _mm512_broadcast_i32x4(
      _mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  const __m512i nibble = _mm512_set1_epi8(0x0f);
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i word = _mm512_loadu_si512(codes + (g * kVectors + v) * 64);
      const __m512i even = _mm512_and_si512(word, nibble);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(word, 4), nibble);
      AddWord(a, a_stride, 2 * g, v, _mm512_shuffle_epi8(levels, even), s);
      AddWord(a, a_stride, 2 * g + 1, v, _mm512_shuffle_epi8(levels, odd), s);
    }
  }
}

// totals[i][0 .. 64) += of one block of kRows rows of a.
template <QuantizedFormat kFormat, int kRows>
SINKLORA_VNNI_TARGET void AddBlock(const char* record, const ByteBlock* a,
                                   int64_t a_stride, float* totals) {
  Sums<kRows> s;
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      s.high[r][v] = _mm512_setzero_si512();
      s.low[r][v] = _mm512_set1_epi32(a[r * a_stride].offset);
    }
  }
  if constexpr (kFormat == QuantizedFormat::kInt8) {
    AddInt8(record + kQuantizedScaleBytes, a, a_stride, s);
  } else {
    AddInt4(record + kQuantizedScaleBytes, a, a_stride, s);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m256i bits =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(record + v * 32));
    const __m512 scale =
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      float* total = totals + r * kQuantizedPanel + v * 16;
      const __m512i sum =
          _mm512_add_epi32(_mm512_slli_epi32(s.high[r][v], 8), s.low[r][v]);
      const __m512 factor =
          _mm512_mul_ps(scale, _mm512_set1_ps(a[r * a_stride].scale));
      _mm512_storeu_ps(total, _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(sum),
                                              _mm512_loadu_ps(total)));
    }
  }
}

// totals[i][0 .. 64) += of one block of `rows` rows of a.
template <QuantizedFormat kFormat>
void AddRows(const char* record, const ByteBlock* a, int64_t a_stride,
             int64_t rows, float* totals) {
  while (rows >= kMaxRows) {
    AddBlock<kFormat, kMaxRows>(record, a, a_stride, totals);
    a += kMaxRows * a_stride;
    totals += kMaxRows * kQuantizedPanel;
    rows -= kMaxRows;
  }
  if (rows == 2) AddBlock<kFormat, 2>(record, a, a_stride, totals);
  if (rows == 1) AddBlock<kFormat, 1>(record, a, a_stride, totals);
}

// `panels` panels from `panel` on, at most kBytePanels, of which each is a
// stream of its own from memory.
template <QuantizedFormat kFormat>
void MultiplyPanels(const QuantizedMatMulParams& p, const ByteBlock* a,
                    int64_t panel, int64_t panels, int64_t first_row,
                    int64_t rows) {
  constexpr int64_t kRecord = QuantizedRecordBytes(kFormat);
  constexpr int64_t kBlocksAhead = kFarBytes / kRecord;
  const int64_t blocks = QuantizedBlocks(p.b.cols);
  alignas(64) float totals[kBytePanels][kRowChunk * kQuantizedPanel];
  for (int64_t i = 0; i < panels; ++i) {
    std::fill_n(totals[i], rows * kQuantizedPanel, 0.0f);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    // Beyond a panel's last block come those of the panels after these.
    const int64_t far =
        kBlocksAhead + (b + kBlocksAhead < blocks ? 0 : (panels - 1) * blocks);
    for (int64_t i = 0; i < panels; ++i) {
      const char* record = p.b.Record(panel + i, b);
      AskFor(record + far * kRecord, record + kNearBytes, kRecord);
      AddRows<kFormat>(record, a + first_row * blocks + b, blocks, rows,
                       totals[i]);
    }
  }
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t col = (panel + i) * kQuantizedPanel;
    const int64_t n = std::min(kQuantizedPanel, p.b.rows - col);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(totals[i] + r * kQuantizedPanel, n,
                  At(p.out, first_row + r) + col);
    }
  }
}

}  // namespace

void PackByteRow(const float* a, int64_t k, QuantizedFormat format,
                 ByteBlock* out) {
  for (int64_t c = 0; c < k; c += kQuantizedBlock, ++out) {
    PackBlock(a + c, std::min(kQuantizedBlock, k - c),
              format == QuantizedFormat::kInt4, out);
  }
}

void MultiplyBytes(const QuantizedMatMulParams& p, const ByteBlock* a,
                   int64_t begin, int64_t end) {
  for (int64_t panel = begin; panel < end; panel += kBytePanels) {
    const int64_t panels = std::min(kBytePanels, end - panel);
    for (int64_t i = 0; i < p.a.shape[0]; i += kRowChunk) {
      const int64_t rows = std::min(kRowChunk, p.a.shape[0] - i);
      if (p.b.format == QuantizedFormat::kInt8) {
        MultiplyPanels<QuantizedFormat::kInt8>(p, a, panel, panels, i, rows);
      } else {
        MultiplyPanels<QuantizedFormat::kInt4>(p, a, panel, panels, i, rows);
      }
    }
  }
}

}  // namespace sinklora::kernels::cpu
