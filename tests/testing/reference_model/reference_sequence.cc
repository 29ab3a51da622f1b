// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/reference_model/reference_sequence.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace sinklora::testing {

ReferenceSequence::ReferenceSequence(const ReferenceModel* model,
                                     const ReferencePolicy& policy)
    : model_(model),
      policy_(policy),
      heads_(
          static_cast<size_t>(model->config.num_layers),
          std::vector<Head>(static_cast<size_t>(model->config.num_kv_heads))) {}

std::vector<double> ReferenceSequence::Project(
    const std::vector<double>& x, const std::string& module) const {
  const auto times = [this](const std::string& name,
                            const std::vector<double>& in) {
    const ReferenceMatrix& m = model_->tensors.at(name);
    std::vector<double> out(static_cast<size_t>(m.rows), 0.0);
    for (int64_t r = 0; r < m.rows; ++r) {
      for (int64_t c = 0; c < m.cols; ++c) {
        out[r] += m.values[r * m.cols + c] * in[c];
      }
    }
    return out;
  };
  std::vector<double> out = times(module + ".weight", x);
  if (model_->tensors.contains(module + ".bias")) {
    const std::vector<double>& bias =
        model_->tensors.at(module + ".bias").values;
    for (size_t i = 0; i < out.size(); ++i) out[i] += bias[i];
  }
  if (model_->tensors.contains(module + ".lora_A")) {
    const std::vector<double> low =
        times(module + ".lora_B", times(module + ".lora_A", x));
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] += model_->lora_scale * low[i];
    }
  }
  return out;
}

std::vector<double> ReferenceSequence::Norm(const std::vector<double>& x,
                                            const std::string& tensor) const {
  const std::vector<double>& w = model_->tensors.at(tensor).values;
  std::vector<double> out(x.size());
  for (size_t base = 0; base < x.size(); base += w.size()) {
    double squares = 0;
    for (size_t i = 0; i < w.size(); ++i) squares += x[base + i] * x[base + i];
    const double rms = std::sqrt(squares / static_cast<double>(w.size()) +
                                 model_->config.rms_norm_eps);
    for (size_t i = 0; i < w.size(); ++i) {
      out[base + i] = x[base + i] / rms * w[i];
    }
  }
  return out;
}

void ReferenceSequence::Rotate(std::vector<double>* x) const {
  const int64_t dim = model_->config.head_dim;
  for (size_t base = 0; base < x->size(); base += dim) {
    for (int64_t i = 0; i < dim / 2; ++i) {
      const double angle =
          position_ / model_->rope_factor *
          std::pow(model_->config.rope_theta,
                   -2.0 * static_cast<double>(i) / static_cast<double>(dim));
      double& a = (*x)[base + i];
      double& b = (*x)[base + i + dim / 2];
      const double rotated = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = rotated;
    }
  }
}

// Attention of the newest token over what is kept, itself included; its
// probabilities are added to the scores.
std::vector<double> ReferenceSequence::Attend(int64_t layer,
                                              const std::vector<double>& q) {
  const int64_t dim = model_->config.head_dim;
  const int64_t group = model_->config.num_heads / model_->config.num_kv_heads;
  std::vector<double> out(q.size(), 0.0);
  for (int64_t h = 0; h < model_->config.num_heads; ++h) {
    Head& head = heads_[layer][h / group];
    std::map<int32_t, double> weight;
    double largest = -INFINITY, sum = 0;
    const int64_t window = model_->config.window(layer);
    for (const auto& [position, score] : head.score) {
      if (window > 0 && position_ - position >= window) continue;
      double dot = 0;
      for (int64_t c = 0; c < dim; ++c) {
        dot += q[h * dim + c] * head.k[position][c];
      }
      weight[position] = dot / std::sqrt(static_cast<double>(dim));
      largest = std::max(largest, weight[position]);
    }
    for (auto& [position, w] : weight) sum += w = std::exp(w - largest);
    for (const auto& [position, w] : weight) {
      head.score[position] += w / sum;
      for (int64_t c = 0; c < dim; ++c) {
        out[h * dim + c] += w / sum * head.v[position][c];
      }
    }
  }
  return out;
}

void ReferenceSequence::Evict(int64_t layer, Head* head) {
  const int64_t window = model_->config.window(layer);
  while (policy_.budget > 0 &&
         static_cast<int64_t>(head->score.size()) > policy_.budget) {
    const int32_t oldest = head->score.begin()->first;
    if (window > 0 && position_ + 1 - oldest >= window) {
      head->score.erase(oldest);
      continue;
    }
    int32_t victim = -1;
    double lowest = INFINITY, second = INFINITY;
    for (const auto& [position, score] : head->score) {  // oldest first
      if (position < policy_.sinks || position > position_ - policy_.recent) {
        continue;
      }
      const double key = policy_.by_score ? score : position;
      if (key < lowest) {
        second = lowest;
        lowest = key;
        victim = position;
      } else {
        second = std::min(second, key);
      }
    }
    smallest_margin_ = std::min(smallest_margin_, second - lowest);
    head->score.erase(victim);
  }
}

std::vector<double> ReferenceSequence::Feed(int32_t token, bool evict) {
  const LlamaConfig& c = model_->config;
  ++position_;
  const ReferenceMatrix& table =
      model_->tensors.at("model.embed_tokens.weight");
  std::vector<double> x(table.values.begin() + token * table.cols,
                        table.values.begin() + (token + 1) * table.cols);
  const auto add = [&x](const std::vector<double>& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  };
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto h = Norm(x, prefix + "input_layernorm.weight");
    auto q = Project(h, prefix + "self_attn.q_proj");
    auto k = Project(h, prefix + "self_attn.k_proj");
    const auto v = Project(h, prefix + "self_attn.v_proj");
    if (c.qk_norm) {
      q = Norm(q, prefix + "self_attn.q_norm.weight");
      k = Norm(k, prefix + "self_attn.k_norm.weight");
    }
    Rotate(&q);
    Rotate(&k);
    for (int64_t g = 0; g < c.num_kv_heads; ++g) {
      Head& head = heads_[layer][g];
      head.k.emplace_back(k.begin() + g * c.head_dim,
                          k.begin() + (g + 1) * c.head_dim);
      head.v.emplace_back(v.begin() + g * c.head_dim,
                          v.begin() + (g + 1) * c.head_dim);
      head.score[position_] = 0;
    }
    add(Project(Attend(layer, q), prefix + "self_attn.o_proj"));
    for (Head& head : heads_[layer]) {
      if (evict) Evict(layer, &head);
    }
    const auto n = Norm(x, prefix + "post_attention_layernorm.weight");
    auto act = Project(n, prefix + "mlp.gate_proj");
    const auto up = Project(n, prefix + "mlp.up_proj");
    for (size_t i = 0; i < act.size(); ++i) {
      act[i] = act[i] / (1.0 + std::exp(-act[i])) * up[i];
    }
    add(Project(act, prefix + "mlp.down_proj"));
  }
  return Project(Norm(x, "model.norm.weight"),
                 c.tie_word_embeddings ? "model.embed_tokens" : "lm_head");
}

std::vector<int32_t> ReferenceSequence::Kept(int64_t layer,
                                             int64_t kv_head) const {
  std::vector<int32_t> out;
  for (const auto& [position, score] : heads_[layer][kv_head].score) {
    out.push_back(position);
  }
  return out;
}

}  // namespace sinklora::testing
