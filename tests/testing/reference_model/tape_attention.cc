// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/testing/reference_model/tape.h"

namespace sinklora::testing {
namespace {

// Softmax over the allowed keys of one query; 0 elsewhere.
void MaskedSoftmax(const uint8_t* allowed, std::vector<double>* row) {
  double largest = -INFINITY, sum = 0;
  for (size_t j = 0; j < row->size(); ++j) {
    if (allowed[j]) largest = std::max(largest, (*row)[j]);
  }
  for (size_t j = 0; j < row->size(); ++j) {
    (*row)[j] = allowed[j] ? std::exp((*row)[j] - largest) : 0.0;
    sum += (*row)[j];
  }
  for (double& p : *row) p /= sum;
}

}  // namespace

Tape::Var Tape::Attention(Var q, Var k, Var v, int64_t head_dim,
                          const DenseMask& mask) {
  const int64_t tokens = at(q).rows, width = at(q).cols;
  const int64_t kv_width = at(k).cols;
  const int64_t heads = width / head_dim, kv_heads = kv_width / head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const Var out = New(tokens, width);
  // probabilities[h][i][j]
  std::vector<std::vector<std::vector<double>>> probabilities(
      static_cast<size_t>(heads));
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t kv = h * kv_heads / heads * head_dim;
    for (int64_t i = 0; i < tokens; ++i) {
      std::vector<double> row(static_cast<size_t>(tokens), 0.0);
      for (int64_t j = 0; j < tokens; ++j) {
        for (int64_t c = 0; c < head_dim; ++c) {
          row[j] += scale * at(q).value[i * width + h * head_dim + c] *
                    at(k).value[j * kv_width + kv + c];
        }
      }
      MaskedSoftmax(mask[h].data() + i * tokens, &row);
      for (int64_t j = 0; j < tokens; ++j) {
        for (int64_t c = 0; c < head_dim; ++c) {
          at(out).value[i * width + h * head_dim + c] +=
              row[j] * at(v).value[j * kv_width + kv + c];
        }
      }
      probabilities[h].push_back(std::move(row));
    }
  }
  at(out).backward = [=, this, p = std::move(probabilities)] {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h * kv_heads / heads * head_dim;
      for (int64_t i = 0; i < tokens; ++i) {
        const int64_t qi = i * width + h * head_dim;
        std::vector<double> dp(static_cast<size_t>(tokens), 0.0);
        double mean = 0;
        for (int64_t j = 0; j < tokens; ++j) {
          for (int64_t c = 0; c < head_dim; ++c) {
            const double g = at(out).grad[qi + c];
            dp[j] += g * at(v).value[j * kv_width + kv + c];
            at(v).grad[j * kv_width + kv + c] += g * p[h][i][j];
          }
          mean += dp[j] * p[h][i][j];
        }
        for (int64_t j = 0; j < tokens; ++j) {
          const double ds = scale * p[h][i][j] * (dp[j] - mean);
          for (int64_t c = 0; c < head_dim; ++c) {
            at(q).grad[qi + c] += ds * at(k).value[j * kv_width + kv + c];
            at(k).grad[j * kv_width + kv + c] += ds * at(q).value[qi + c];
          }
        }
      }
    }
  };
  return out;
}

}  // namespace sinklora::testing
