// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_tensor_names.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "fmt/format.h"

namespace sinklora {
namespace {

struct NameRow {
  std::string_view hugging_face;
  std::string_view gguf;
};

constexpr NameRow kModelRows[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"}};

constexpr NameRow kLayerRows[] = {{"input_layernorm", "attn_norm"},
                                  {"self_attn.q_proj", "attn_q"},
                                  {"self_attn.k_proj", "attn_k"},
                                  {"self_attn.v_proj", "attn_v"},
                                  {"self_attn.o_proj", "attn_output"},
                                  {"self_attn.q_norm", "attn_q_norm"},
                                  {"self_attn.k_norm", "attn_k_norm"},
                                  {"post_attention_layernorm", "ffn_norm"},
                                  {"mlp.gate_proj", "ffn_gate"},
                                  {"mlp.up_proj", "ffn_up"},
                                  {"mlp.down_proj", "ffn_down"}};

constexpr NameRow kLayerPrefix = {"model.layers.", "blk."};

// Translates by the column `from` into the column `to`.
std::optional<std::string> Translate(std::string_view name,
                                     std::string_view NameRow::*from,
                                     std::string_view NameRow::*to) {
  for (const NameRow& row : kModelRows) {
    if (name == row.*from) return std::string(row.*to);
  }
  if (!name.starts_with(kLayerPrefix.*from)) return std::nullopt;
  name.remove_prefix((kLayerPrefix.*from).size());
  const auto end = std::find_if_not(name.begin(), name.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
  });
  const std::string_view layer = name.substr(0, end - name.begin());
  name.remove_prefix(layer.size());
  // The number as it is printed, so that no two names are one tensor.
  const bool padded = layer.size() > 1 && layer.front() == '0';
  if (layer.empty() || padded || !name.starts_with('.')) return std::nullopt;
  name.remove_prefix(1);
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view suffix = name.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return std::nullopt;
  for (const NameRow& row : kLayerRows) {
    if (name.substr(0, dot) == row.*from) {
      return fmt::format("{}{}.{}{}", kLayerPrefix.*to, layer, row.*to, suffix);
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> GgufTensorName(std::string_view hugging_face_name) {
  return Translate(hugging_face_name, &NameRow::hugging_face, &NameRow::gguf);
}

std::optional<std::string> HuggingFaceTensorName(std::string_view gguf_name) {
  return Translate(gguf_name, &NameRow::gguf, &NameRow::hugging_face);
}

bool IsRotated(std::string_view name) {
  return name.find(".self_attn.q_proj.") != std::string_view::npos ||
         name.find(".self_attn.k_proj.") != std::string_view::npos;
}

int64_t HuggingFaceRow(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, place = row % head_dim;
  return head * head_dim + place % 2 * (head_dim / 2) + place / 2;
}

int64_t GgufRow(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, place = row % head_dim;
  const int64_t half = head_dim / 2;
  return head * head_dim + place % half * 2 + place / half;
}

}  // namespace sinklora
