// Metadata keys of GGUF files. Source: gguf-py's constants.py.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_KEYS_H_
#define SINKLORA_COMMON_GGUF_GGUF_KEYS_H_

namespace sinklora::gguf_keys {

inline constexpr char kArchitecture[] = "general.architecture";
inline constexpr char kType[] = "general.type";
inline constexpr char kName[] = "general.name";
inline constexpr char kFileType[] = "general.file_type";
inline constexpr char kQuantizationVersion[] = "general.quantization_version";

// Behind the architecture's name.
inline constexpr char kVocabSize[] = ".vocab_size";
inline constexpr char kContextLength[] = ".context_length";
inline constexpr char kEmbeddingLength[] = ".embedding_length";
inline constexpr char kBlockCount[] = ".block_count";
inline constexpr char kFeedForwardLength[] = ".feed_forward_length";
inline constexpr char kHeadCount[] = ".attention.head_count";
inline constexpr char kHeadCountKv[] = ".attention.head_count_kv";
inline constexpr char kKeyLength[] = ".attention.key_length";
inline constexpr char kValueLength[] = ".attention.value_length";
inline constexpr char kRmsEpsilon[] = ".attention.layer_norm_rms_epsilon";
inline constexpr char kSlidingWindow[] = ".attention.sliding_window";
inline constexpr char kExpertCount[] = ".expert_count";
inline constexpr char kRopeDimensions[] = ".rope.dimension_count";
inline constexpr char kRopeBase[] = ".rope.freq_base";
inline constexpr char kRopeScalingType[] = ".rope.scaling.type";
inline constexpr char kRopeScalingFactor[] = ".rope.scaling.factor";
inline constexpr char kRopeScalingContext[] =
    ".rope.scaling.original_context_length";
// Multiplies YaRN's own attention factor; what llama.cpp reads.
inline constexpr char kRopeScalingAttention[] = ".rope.scaling.attn_factor";
// Replaces it; what convert_hf_to_gguf.py writes.
inline constexpr char kYarnAttention[] = ".rope.scaling.yarn_attn_factor";
inline constexpr char kYarnBetaFast[] = ".rope.scaling.yarn_beta_fast";
inline constexpr char kYarnBetaSlow[] = ".rope.scaling.yarn_beta_slow";

inline constexpr char kTokenizer[] = "tokenizer.ggml.model";
inline constexpr char kPre[] = "tokenizer.ggml.pre";
inline constexpr char kTokens[] = "tokenizer.ggml.tokens";
inline constexpr char kScores[] = "tokenizer.ggml.scores";
inline constexpr char kTokenTypes[] = "tokenizer.ggml.token_type";
inline constexpr char kMerges[] = "tokenizer.ggml.merges";
inline constexpr char kBosId[] = "tokenizer.ggml.bos_token_id";
inline constexpr char kEosId[] = "tokenizer.ggml.eos_token_id";
inline constexpr char kUnknownId[] = "tokenizer.ggml.unknown_token_id";
inline constexpr char kPaddingId[] = "tokenizer.ggml.padding_token_id";
inline constexpr char kAddBos[] = "tokenizer.ggml.add_bos_token";
inline constexpr char kAddEos[] = "tokenizer.ggml.add_eos_token";
inline constexpr char kAddSpacePrefix[] = "tokenizer.ggml.add_space_prefix";
inline constexpr char kChatTemplate[] = "tokenizer.chat_template";

// Our own, which llama.cpp passes over: what config.json says of the context,
// where it is not what llama.cpp can run.
inline constexpr char kMaxPositions[] = "sinklora.max_position_embeddings";
inline constexpr char kFirstSlidingLayer[] = "sinklora.first_sliding_layer";

}  // namespace sinklora::gguf_keys

#endif  // SINKLORA_COMMON_GGUF_GGUF_KEYS_H_
