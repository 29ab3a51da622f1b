// Reads SentencePiece's tokenizer.model file into plain data and checks it.
//
// Supported: BPE and unigram models, every normalizer_spec, every piece type.
// Refused by name: WORD and CHAR models, a denormalizer.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SENTENCEPIECE_FILE_H_
#define SINKLORA_COMMON_TEXT_SENTENCEPIECE_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/vocabulary_view.h"

namespace sinklora {

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceFile {
  std::vector<SentencePiece> pieces;
  bool is_unigram = true;
  bool byte_fallback = false;
  std::string unknown_surface = " \xE2\x81\x87 ";  // U+2047
  int32_t unknown_id = 0;
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  std::optional<int32_t> padding_id;
  // normalizer_spec, and trainer_spec's treat_whitespace_as_suffix
  std::string character_map;
  bool add_dummy_prefix = true;
  bool remove_extra_spaces = true;
  bool escape_spaces = true;
  bool spaces_as_suffix = false;
};

// `what` names the file in errors, which are kInvalidArgument: malformed data
// with its place, pieces that are empty, not UTF-8, defined twice or without a
// finite score, byte pieces that are missing or not wanted, no unknown piece.
absl::StatusOr<SentencePieceFile> ParseSentencePieceFile(
    std::string_view data, const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SENTENCEPIECE_FILE_H_
