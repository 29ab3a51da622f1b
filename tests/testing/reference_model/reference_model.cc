// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/reference_model/reference_model.h"

#include <list>
#include <random>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/model_files.h"
#include "common/weights/safetensors.h"

namespace sinklora::testing {
namespace {

using Var = Tape::Var;

// Builds the graph of one run and remembers where each tensor sits.
class Builder {
 public:
  Builder(const ReferenceModel& model, Tape* tape)
      : model_(model), tape_(tape) {}

  Var Tensor(const std::string& name) {
    const auto it = vars_.find(name);
    if (it != vars_.end()) return it->second;
    const ReferenceMatrix& m = model_.tensors.at(name);
    return vars_[name] = tape_->Input(m.rows, m.cols, m.values);
  }
  Var Linear(Var x, const std::string& module) {
    Var y = tape_->MatMulTransposed(x, Tensor(module + ".weight"));
    if (model_.tensors.contains(module + ".bias")) {
      y = tape_->AddBias(y, Tensor(module + ".bias"));
    }
    if (!model_.tensors.contains(module + ".lora_A")) return y;
    const Var low = tape_->MatMulTransposed(x, Tensor(module + ".lora_A"));
    const Var high = tape_->MatMulTransposed(low, Tensor(module + ".lora_B"));
    return tape_->Add(y, tape_->Scale(high, model_.lora_scale));
  }
  Var Norm(Var x, const std::string& tensor) {
    return tape_->RmsNorm(x, Tensor(tensor), model_.config.rms_norm_eps);
  }
  const std::map<std::string, Var>& vars() const { return vars_; }

 private:
  const ReferenceModel& model_;
  Tape* const tape_;
  std::map<std::string, Var> vars_;
};

Var Layer(const ReferenceModel& model, int64_t index,
          const std::vector<int32_t>& positions, const DenseMask& mask,
          Builder* b, Tape* tape, Var x) {
  const LlamaConfig& c = model.config;
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  const auto rope = [&](Var y) {
    return tape->Rope(y, c.head_dim, positions, c.rope_theta,
                      model.rope_factor);
  };
  const auto head_norm = [&](Var y, const char* tensor) {
    return c.qk_norm ? b->Norm(y, prefix + tensor) : y;
  };
  const Var h = b->Norm(x, prefix + "input_layernorm.weight");
  const Var attention = tape->Attention(
      rope(head_norm(b->Linear(h, prefix + "self_attn.q_proj"),
                     "self_attn.q_norm.weight")),
      rope(head_norm(b->Linear(h, prefix + "self_attn.k_proj"),
                     "self_attn.k_norm.weight")),
      b->Linear(h, prefix + "self_attn.v_proj"), c.head_dim, mask);
  x = tape->Add(x, b->Linear(attention, prefix + "self_attn.o_proj"));
  const Var n = b->Norm(x, prefix + "post_attention_layernorm.weight");
  const Var act = tape->SwiGlu(b->Linear(n, prefix + "mlp.gate_proj"),
                               b->Linear(n, prefix + "mlp.up_proj"));
  return tape->Add(x, b->Linear(act, prefix + "mlp.down_proj"));
}

}  // namespace

DenseMask ExpandMask(const ReferenceBatch& batch, int64_t heads,
                     int64_t window) {
  const auto tokens = static_cast<int64_t>(batch.ids.size());
  DenseMask mask(static_cast<size_t>(heads),
                 std::vector<uint8_t>(static_cast<size_t>(tokens * tokens)));
  for (int64_t h = 0; h < heads; ++h) {
    int64_t start = 0;
    for (const ReferenceDocument& d : batch.documents) {
      const bool shifted = h >= heads - batch.shifted_heads;
      const int64_t shift = shifted ? d.group_size / 2 : 0;
      const auto group = [&](int64_t p) { return (p + shift) / d.group_size; };
      for (int64_t i = 0; i < d.tokens; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          mask[h][(start + i) * tokens + start + j] =
              (j < batch.sink_tokens || group(i) == group(j)) &&
              (window == 0 || i - j < window);
        }
      }
      start += d.tokens;
    }
  }
  return mask;
}

ReferenceResult RunReference(const ReferenceModel& model,
                             const ReferenceBatch& batch, double loss_scale) {
  Tape tape;
  Builder b(model, &tape);
  std::vector<int32_t> positions;
  for (const ReferenceDocument& d : batch.documents) {
    for (int64_t i = 0; i < d.tokens; ++i) {
      positions.push_back(static_cast<int32_t>(i));
    }
  }
  Var x = tape.Gather(b.Tensor("model.embed_tokens.weight"), batch.ids);
  for (int64_t i = 0; i < model.config.num_layers; ++i) {
    const DenseMask mask =
        ExpandMask(batch, model.config.num_heads, model.config.window(i));
    x = Layer(model, i, positions, mask, &b, &tape, x);
  }
  const Var hidden = b.Norm(x, "model.norm.weight");
  const Var logits =
      tape.MatMulTransposed(hidden, b.Tensor(model.config.tie_word_embeddings
                                                 ? "model.embed_tokens.weight"
                                                 : "lm_head.weight"));
  const Var loss = tape.Nll(logits, batch.labels, loss_scale);
  tape.Backward(loss);
  ReferenceResult out;
  out.loss = tape.value(loss)[0];
  out.logits = tape.value(logits);
  for (const auto& [name, var] : b.vars()) {
    out.gradients[name] = tape.grad(var);
  }
  return out;
}

ReferenceModel RandomReferenceModel(const LlamaConfig& config, uint64_t seed,
                                    double deviation) {
  ReferenceModel out;
  out.config = config;
  out.rope_factor = config.rope_factor;
  std::mt19937_64 bits(seed);
  std::normal_distribution<double> normal;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    const bool vector = shape.size() == 1;
    const bool norm = name.ends_with("norm.weight");
    ReferenceMatrix m;
    m.rows = vector ? 1 : shape[0];
    m.cols = shape.back();
    for (int64_t i = 0; i < m.rows * m.cols; ++i) {
      const double x = deviation * normal(bits);
      m.values.push_back(static_cast<float>(norm ? 1.0 + x : x));
    }
    out.tensors[name] = std::move(m);
  }
  return out;
}

absl::Status WriteReferenceModel(const ReferenceModel& model,
                                 const std::string& directory) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  std::list<TensorBytes> bytes;
  std::map<std::string, StoredTensor> stored;
  for (const auto& [name, shape] : LlamaTensors(model.config)) {
    const std::vector<double>& values = model.tensors.at(name).values;
    const std::vector<float> floats(values.begin(), values.end());
    bytes.emplace_back(floats.data(), shape, FileDType::kF32);
    stored[name] = bytes.back().view();
  }
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, "model.safetensors"),
                                      stored, {{"format", "pt"}}));
  return WriteFileAtomic(JoinPath(directory, "config.json"),
                         ToJson(model.config));
}

}  // namespace sinklora::testing
