// Names and row order of tensors: Hugging Face's and llama.cpp's.
// Source: gguf-py's tensor_mapping.py, convert_hf_to_gguf.py.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_TENSOR_NAMES_H_
#define SINKLORA_COMMON_GGUF_GGUF_TENSOR_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sinklora {

// The factors by which llama.cpp divides the frequencies of RoPE (Llama 3.1).
inline constexpr char kRopeFreqsTensor[] = "rope_freqs.weight";

// "blk.3.attn_q.weight" of "model.layers.3.self_attn.q_proj.weight" and back;
// nullopt for a name that is not of the other kind.
std::optional<std::string> GgufTensorName(std::string_view hugging_face_name);
std::optional<std::string> HuggingFaceTensorName(std::string_view gguf_name);

// llama.cpp's `llama` rotates neighbouring rows of a head where Hugging Face
// rotates rows half a head apart, so the rows of these tensors are reordered.
bool IsRotated(std::string_view hugging_face_name);
// Row of the Hugging Face tensor that is row `row` of the GGUF tensor, and
// back.
int64_t HuggingFaceRow(int64_t row, int64_t head_dim);
int64_t GgufRow(int64_t row, int64_t head_dim);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_TENSOR_NAMES_H_
