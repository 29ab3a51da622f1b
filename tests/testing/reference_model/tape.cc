// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/reference_model/tape.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sinklora::testing {

Tape::Var Tape::New(int64_t rows, int64_t cols) {
  Node node;
  node.rows = rows;
  node.cols = cols;
  node.value.assign(static_cast<size_t>(rows * cols), 0.0);
  node.grad.assign(static_cast<size_t>(rows * cols), 0.0);
  nodes_.push_back(std::move(node));
  return static_cast<Var>(nodes_.size()) - 1;
}

Tape::Var Tape::Input(int64_t rows, int64_t cols, std::vector<double> values) {
  const Var out = New(rows, cols);
  at(out).value = std::move(values);
  return out;
}

Tape::Var Tape::MatMulTransposed(Var x, Var w) {
  const int64_t m = at(x).rows, k = at(x).cols, n = at(w).rows;
  const Var out = New(m, n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < k; ++c) {
        sum += at(x).value[i * k + c] * at(w).value[j * k + c];
      }
      at(out).value[i * n + j] = sum;
    }
  }
  at(out).backward = [this, x, w, out, m, k, n] {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const double g = at(out).grad[i * n + j];
        for (int64_t c = 0; c < k; ++c) {
          at(x).grad[i * k + c] += g * at(w).value[j * k + c];
          at(w).grad[j * k + c] += g * at(x).value[i * k + c];
        }
      }
    }
  };
  return out;
}

Tape::Var Tape::Add(Var a, Var b) {
  const Var out = New(at(a).rows, at(a).cols);
  const size_t n = at(out).value.size();
  for (size_t i = 0; i < n; ++i) {
    at(out).value[i] = at(a).value[i] + at(b).value[i];
  }
  at(out).backward = [this, a, b, out, n] {
    for (size_t i = 0; i < n; ++i) {
      at(a).grad[i] += at(out).grad[i];
      at(b).grad[i] += at(out).grad[i];
    }
  };
  return out;
}

Tape::Var Tape::AddBias(Var x, Var bias) {
  const int64_t rows = at(x).rows, cols = at(x).cols;
  const Var out = New(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    at(out).value[i] = at(x).value[i] + at(bias).value[i % cols];
  }
  at(out).backward = [this, x, bias, out, rows, cols] {
    for (int64_t i = 0; i < rows * cols; ++i) {
      at(x).grad[i] += at(out).grad[i];
      at(bias).grad[i % cols] += at(out).grad[i];
    }
  };
  return out;
}

Tape::Var Tape::Scale(Var x, double factor) {
  const Var out = New(at(x).rows, at(x).cols);
  const size_t n = at(out).value.size();
  for (size_t i = 0; i < n; ++i) at(out).value[i] = factor * at(x).value[i];
  at(out).backward = [this, x, out, n, factor] {
    for (size_t i = 0; i < n; ++i) at(x).grad[i] += factor * at(out).grad[i];
  };
  return out;
}

Tape::Var Tape::RmsNorm(Var x, Var weight, double eps) {
  const Var out = New(at(x).rows, at(x).cols);
  const int64_t cols = at(weight).cols;
  const int64_t rows = at(x).rows * at(x).cols / cols;
  std::vector<double> inv(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    double squares = 0;
    for (int64_t c = 0; c < cols; ++c) {
      squares += at(x).value[i * cols + c] * at(x).value[i * cols + c];
    }
    inv[i] = 1.0 / std::sqrt(squares / static_cast<double>(cols) + eps);
    for (int64_t c = 0; c < cols; ++c) {
      at(out).value[i * cols + c] =
          at(x).value[i * cols + c] * inv[i] * at(weight).value[c];
    }
  }
  at(out).backward = [this, x, weight, out, rows, cols, inv] {
    for (int64_t i = 0; i < rows; ++i) {
      double dot = 0;  // of the gradient of x * inv with x
      for (int64_t c = 0; c < cols; ++c) {
        const double g = at(out).grad[i * cols + c];
        const double xi = at(x).value[i * cols + c];
        at(weight).grad[c] += g * xi * inv[i];
        dot += g * at(weight).value[c] * xi;
      }
      const double cube = inv[i] * inv[i] * inv[i] / static_cast<double>(cols);
      for (int64_t c = 0; c < cols; ++c) {
        at(x).grad[i * cols + c] +=
            at(out).grad[i * cols + c] * at(weight).value[c] * inv[i] -
            at(x).value[i * cols + c] * cube * dot;
      }
    }
  };
  return out;
}

Tape::Var Tape::Rope(Var x, int64_t head_dim,
                     const std::vector<int32_t>& positions, double theta,
                     double factor) {
  const int64_t rows = at(x).rows, cols = at(x).cols, half = head_dim / 2;
  const Var out = New(rows, cols);
  const auto rotate = [=](const std::vector<double>& from, double sign,
                          std::vector<double>* to) {
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t base = t * cols; base < (t + 1) * cols; base += head_dim) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle =
              positions[t] / factor /
              std::pow(theta, 2.0 * static_cast<double>(i) /
                                  static_cast<double>(head_dim));
          const double c = std::cos(angle), s = sign * std::sin(angle);
          const double a = from[base + i], b = from[base + half + i];
          (*to)[base + i] += a * c - b * s;
          (*to)[base + half + i] += b * c + a * s;
        }
      }
    }
  };
  rotate(at(x).value, 1.0, &at(out).value);
  at(out).backward = [this, x, out, rotate] {
    rotate(at(out).grad, -1.0, &at(x).grad);
  };
  return out;
}

Tape::Var Tape::SwiGlu(Var gate, Var up) {
  const Var out = New(at(gate).rows, at(gate).cols);
  const size_t n = at(out).value.size();
  for (size_t i = 0; i < n; ++i) {
    const double g = at(gate).value[i];
    at(out).value[i] = g / (1.0 + std::exp(-g)) * at(up).value[i];
  }
  at(out).backward = [this, gate, up, out, n] {
    for (size_t i = 0; i < n; ++i) {
      const double g = at(gate).value[i];
      const double s = 1.0 / (1.0 + std::exp(-g));
      at(up).grad[i] += at(out).grad[i] * g * s;
      at(gate).grad[i] +=
          at(out).grad[i] * at(up).value[i] * (s + g * s * (1.0 - s));
    }
  };
  return out;
}

Tape::Var Tape::Gather(Var table, const std::vector<int32_t>& ids) {
  const int64_t cols = at(table).cols;
  const Var out = New(static_cast<int64_t>(ids.size()), cols);
  for (size_t t = 0; t < ids.size(); ++t) {
    for (int64_t c = 0; c < cols; ++c) {
      at(out).value[t * cols + c] = at(table).value[ids[t] * cols + c];
    }
  }
  at(out).backward = [this, table, out, ids, cols] {
    for (size_t t = 0; t < ids.size(); ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        at(table).grad[ids[t] * cols + c] += at(out).grad[t * cols + c];
      }
    }
  };
  return out;
}

Tape::Var Tape::Nll(Var logits, const std::vector<int32_t>& labels,
                    double scale) {
  const int64_t cols = at(logits).cols;
  const Var out = New(1, 1);
  std::vector<double> gradient(at(logits).value.size(), 0.0);
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] < 0) continue;
    const double* row = at(logits).value.data() + t * cols;
    const double largest = *std::max_element(row, row + cols);
    double sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(row[c] - largest);
    const double log_sum = largest + std::log(sum);
    at(out).value[0] += scale * (log_sum - row[labels[t]]);
    for (int64_t c = 0; c < cols; ++c) {
      const double hot = c == labels[t] ? 1.0 : 0.0;
      gradient[t * cols + c] = scale * (std::exp(row[c] - log_sum) - hot);
    }
  }
  at(out).backward = [this, logits, out, gradient] {
    for (size_t i = 0; i < gradient.size(); ++i) {
      at(logits).grad[i] += at(out).grad[0] * gradient[i];
    }
  };
  return out;
}

void Tape::Backward(Var output) {
  at(output).grad[0] = 1.0;
  for (Var v = output; v >= 0; --v) {
    if (at(v).backward) at(v).backward();
  }
}

}  // namespace sinklora::testing
