// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/quantized_matmul/int4_search.h"
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

double RoundToBf16(double value) {
  return FromBf16(ToBf16(static_cast<float>(value)));
}

int NearestCode(double x) {
  return static_cast<int>(
      std::count_if(kInt4Middles.begin(), kInt4Middles.end(),
                    [x](float middle) { return x > middle; }));
}

double SquaredError(const std::vector<double>& weights, double scale,
                    double code_scale) {
  double sum = 0;
  for (const double w : weights) {
    const double e = w - scale * kInt4Levels[NearestCode(w / code_scale)];
    sum += e * e;
  }
  return sum;
}

double Refit(const std::vector<double>& weights, double scale) {
  double product = 0, square = 0;
  for (const double w : weights) {
    const double level = kInt4Levels[NearestCode(w / scale)];
    product += w * level;
    square += level * level;
  }
  return product / square;
}

double Int4Scale(const std::vector<double>& weights, double largest) {
  double best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (const float outer : kInt4OuterLevels) {
    for (const float factor : kInt4Factors) {
      const double scale = double{factor} * largest / double{outer};
      for (const double candidate : {scale, Refit(weights, scale)}) {
        const double error = SquaredError(weights, candidate, scale);
        if (error >= least) continue;
        least = error;
        best = candidate;
      }
    }
  }
  return RoundToBf16(best);
}

void StoreBlock(const std::vector<double>& weights, QuantizedFormat format,
                int64_t row, char* record) {
  double largest = 0;
  for (const double w : weights) {
    if (std::abs(w) > std::abs(largest)) largest = w;
  }
  double scale = 0;
  if (std::abs(largest) >= double{kQuantizedTiny}) {
    scale = format == QuantizedFormat::kInt8
                ? RoundToBf16(std::abs(largest) / 127)
                : Int4Scale(weights, largest);
  }
  reinterpret_cast<bf16_t*>(record)[row] = ToBf16(static_cast<float>(scale));
  char* codes = record + kQuantizedScaleBytes;
  for (int64_t c = 0; c < kQuantizedBlock; ++c) {
    const double x = scale == 0 ? 0 : weights[c] / scale;
    if (format == QuantizedFormat::kInt8) {
      reinterpret_cast<int8_t*>(codes)[QuantizedInt8At(row, c)] =
          static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0, 127.0));
      continue;
    }
    uint32_t& word =
        reinterpret_cast<uint32_t*>(codes)[c / 8 * kQuantizedPanel + row];
    if (c % 8 == 0) word = 0;
    word |= static_cast<uint32_t>(NearestCode(x)) << (4 * (c % 8));
  }
}

double Weight(const QuantizedMatrix& m, int64_t row, int64_t col) {
  return double{QuantizedScale(m, row, col)} * QuantizedLevel(m, row, col);
}

}  // namespace

void Quantize(const QuantizeParams& p) {
  const int64_t rows = p.weight.shape[0], cols = p.weight.shape[1];
  const QuantizedMatrix out{p.out, p.format, rows, cols};
  std::vector<double> weights(kQuantizedBlock);
  for (int64_t r = 0; r < QuantizedPanels(rows) * kQuantizedPanel; ++r) {
    for (int64_t b = 0; b < QuantizedBlocks(cols); ++b) {
      for (int64_t c = 0; c < kQuantizedBlock; ++c) {
        const int64_t col = b * kQuantizedBlock + c;
        weights[c] = r < rows && col < cols ? Load(p.weight, r, col) : 0;
      }
      StoreBlock(weights, p.format, r % kQuantizedPanel,
                 const_cast<char*>(out.Record(r / kQuantizedPanel, b)));
    }
  }
}

void QuantizedMatMul(const QuantizedMatMulParams& p) {
  const bool round = p.products == DType::kBF16;
  for (int64_t i = 0; i < p.a.shape[0]; ++i) {
    for (int64_t j = 0; j < p.b.rows; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < p.b.cols; ++l) {
        const double a = Load(p.a, i, l);
        const double b = Weight(p.b, j, l);
        sum += round ? RoundToBf16(a) * RoundToBf16(b) : a * b;
      }
      Store(p.out, sum, i, j);
    }
  }
}

void DequantizeRows(const DequantizeRowsParams& p) {
  for (int64_t i = 0; i < p.ids.shape[0]; ++i) {
    for (int64_t c = 0; c < p.matrix.cols; ++c) {
      Store(p.out, Weight(p.matrix, LoadInt(p.ids, i), c), i, c);
    }
  }
}

}  // namespace sinklora::kernels::reference
