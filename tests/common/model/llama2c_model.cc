// SPDX-License-Identifier: Apache-2.0
#include "tests/common/model/llama2c_model.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/llama_config.h"
#include "common/weights/safetensors.h"

namespace sinklora::testing {
namespace {

struct Header {
  int32_t dim, hidden, layers, heads, kv_heads, vocab, seq_len;
};

LlamaConfig ToConfig(const Header& h) {
  LlamaConfig config;
  config.num_layers = h.layers;
  config.hidden_size = h.dim;
  config.intermediate_size = h.hidden;
  config.num_heads = h.heads;
  config.num_kv_heads = h.kv_heads;
  config.head_dim = h.dim / h.heads;
  config.vocab_size = std::abs(h.vocab);
  config.max_position_embeddings = h.seq_len;
  config.tie_word_embeddings = h.vocab > 0;
  config.bos_token_id = 1;
  config.eos_token_id = 2;
  return config;
}

// Row 2i of a head becomes row i, row 2i + 1 becomes row i + dim / 2.
std::vector<float> HalfSplit(const std::vector<float>& rows, int64_t cols,
                             int64_t head_dim) {
  std::vector<float> out(rows.size());
  const int64_t count = static_cast<int64_t>(rows.size()) / cols;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t base = r / head_dim * head_dim, i = r % head_dim;
    const int64_t to = base + i / 2 + (i % 2) * head_dim / 2;
    std::memcpy(&out[to * cols], &rows[r * cols], cols * sizeof(float));
  }
  return out;
}

class Converter {
 public:
  Converter(const Header& header, const char* data) : h_(header), at_(data) {}

  void Add(const std::string& name, int64_t rows, int64_t cols) {
    Store(name, Read(rows * cols), rows, cols);
  }
  // The same tensor of every layer lies together in the file.
  void AddPerLayer(const std::string& suffix, int64_t rows, int64_t cols,
                   bool rotated = false) {
    for (int layer = 0; layer < h_.layers; ++layer) {
      std::vector<float> values = Read(rows * cols);
      if (rotated) values = HalfSplit(values, cols, h_.dim / h_.heads);
      Store(fmt::format("model.layers.{}.{}", layer, suffix), values, rows,
            cols);
    }
  }
  void Skip(int64_t floats) { at_ += floats * sizeof(float); }
  const char* at() const { return at_; }
  const std::map<std::string, StoredTensor>& tensors() const {
    return tensors_;
  }

 private:
  std::vector<float> Read(int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    std::memcpy(out.data(), at_, count * sizeof(float));
    Skip(count);
    return out;
  }
  void Store(const std::string& name, const std::vector<float>& values,
             int64_t rows, int64_t cols) {
    const std::vector<int64_t> shape = rows == 1
                                           ? std::vector<int64_t>{cols}
                                           : std::vector<int64_t>{rows, cols};
    bytes_.emplace_back(values.data(), shape, FileDType::kF32);
    tensors_[name] = bytes_.back().view();
  }

  const Header h_;
  const char* at_;
  std::list<TensorBytes> bytes_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace

absl::Status ConvertLlama2c(const std::string& checkpoint,
                            const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::string file, ReadFile(checkpoint));
  Header h;
  if (file.size() < sizeof(h)) {
    return absl::InvalidArgumentError(checkpoint + ": no header");
  }
  std::memcpy(&h, file.data(), sizeof(h));
  const int64_t kv = h.dim / h.heads * h.kv_heads;
  Converter c(h, file.data() + sizeof(h));
  c.Add("model.embed_tokens.weight", std::abs(h.vocab), h.dim);
  c.AddPerLayer("input_layernorm.weight", 1, h.dim);
  c.AddPerLayer("self_attn.q_proj.weight", h.dim, h.dim, true);
  c.AddPerLayer("self_attn.k_proj.weight", kv, h.dim, true);
  c.AddPerLayer("self_attn.v_proj.weight", kv, h.dim);
  c.AddPerLayer("self_attn.o_proj.weight", h.dim, h.dim);
  c.AddPerLayer("post_attention_layernorm.weight", 1, h.dim);
  c.AddPerLayer("mlp.gate_proj.weight", h.hidden, h.dim);
  c.AddPerLayer("mlp.down_proj.weight", h.dim, h.hidden);
  c.AddPerLayer("mlp.up_proj.weight", h.hidden, h.dim);
  c.Add("model.norm.weight", 1, h.dim);
  c.Skip(int64_t{h.seq_len} * (h.dim / h.heads));  // old RoPE tables
  if (h.vocab < 0) c.Add("lm_head.weight", -h.vocab, h.dim);
  if (c.at() != file.data() + file.size()) {
    return absl::InvalidArgumentError(checkpoint + ": wrong size");
  }
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, "model.safetensors"),
                                      c.tensors(), {{"format", "pt"}}));
  return WriteFileAtomic(JoinPath(directory, "config.json"),
                         ToJson(ToConfig(h)));
}

}  // namespace sinklora::testing
