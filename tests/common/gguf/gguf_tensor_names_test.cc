// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_tensor_names.h"

#include <gtest/gtest.h>

namespace sinklora {
namespace {

TEST(GgufTensorNamesTest, NamesGoBothWays) {
  const std::pair<const char*, const char*> pairs[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.12.self_attn.q_proj.weight", "blk.12.attn_q.weight"},
      {"model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"},
      {"model.layers.1.self_attn.v_proj.bias", "blk.1.attn_v.bias"},
      {"model.layers.1.self_attn.o_proj.weight", "blk.1.attn_output.weight"},
      {"model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"},
      {"model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight"},
      {"model.layers.1.post_attention_layernorm.weight",
       "blk.1.ffn_norm.weight"},
      {"model.layers.1.mlp.gate_proj.weight", "blk.1.ffn_gate.weight"},
      {"model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"},
      {"model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"}};
  for (const auto& [hf, gguf] : pairs) {
    EXPECT_EQ(GgufTensorName(hf), gguf);
    EXPECT_EQ(HuggingFaceTensorName(gguf), hf);
  }
}

TEST(GgufTensorNamesTest, OtherNamesAreNone) {
  for (const char* name :
       {"", "blk", "blk.", "blk.1", "blk.1.", "blk.1.attn_q",
        "blk..attn_q.weight", "blk.01.attn_q.weight", "blk.1.attn_q.weights",
        "blk.1.attn_x.weight", "blk.-1.attn_q.weight", "blk.1a.attn_q.weight",
        "rope_freqs.weight", "output.bias", "model.norm.weight"}) {
    EXPECT_EQ(HuggingFaceTensorName(name), std::nullopt) << name;
  }
}

TEST(GgufTensorNamesTest, RowsOfAHeadInterleaveItsHalves) {
  // Of head 1 of 8 rows: 8 12 9 13 10 14 11 15.
  const int64_t expected[] = {8, 12, 9, 13, 10, 14, 11, 15};
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(HuggingFaceRow(8 + i, 8), expected[i]);
    EXPECT_EQ(GgufRow(HuggingFaceRow(8 + i, 8), 8), 8 + i);
  }
}

}  // namespace
}  // namespace sinklora
