// The tokenizer file of a model directory, whichever form it has, with what the
// files beside it say.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_FILE_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_FILE_H_

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/added_tokens.h"
#include "common/text/sentencepiece_file.h"
#include "common/text/special_ids.h"
#include "common/text/tiktoken_file.h"
#include "common/text/tokenizer_json.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

struct TokenizerFile {
  // See Tokenizer::LoadFromDirectory.
  static absl::StatusOr<TokenizerFile> Read(const std::string& directory);

  absl::StatusOr<std::unique_ptr<VocabTokenizer>> Make() const;
  // `tokenizer` is this file's. adds_bos and adds_eos have a value.
  absl::StatusOr<SpecialIds> FindSpecialIds(const Tokenizer& tokenizer) const;

  std::string directory;
  std::string path;
  std::string digest;  // SHA-256 of the file
  std::variant<std::unique_ptr<TokenizerJson>, SentencePieceFile, TiktokenFile>
      content;
  // Beyond the tokens of a SentencePieceFile.
  std::vector<AddedToken> added_tokens;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_FILE_H_
