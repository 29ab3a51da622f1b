// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_file.h"

#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/text/sentencepiece_tokenizer.h"
#include "fmt/format.h"

namespace sinklora {

absl::StatusOr<TokenizerFile> TokenizerFile::Read(
    const std::string& directory) {
  TokenizerFile file;
  file.directory = directory;
  file.path = JoinPath(directory, "tokenizer.json");
  const bool is_json = FileExists(file.path);
  if (!is_json) file.path = JoinPath(directory, "tokenizer.model");
  if (!FileExists(file.path)) {
    return absl::NotFoundError(fmt::format(
        "{} has neither tokenizer.json nor tokenizer.model", directory));
  }
  SL_ASSIGN_OR_RETURN(const std::string data, ReadFile(file.path));
  file.digest = Sha256Hex(data);
  if (is_json) {
    SL_ASSIGN_OR_RETURN(file.content, ParseTokenizerJson(data, file.path));
  } else if (IsTiktokenFile(data)) {
    SL_ASSIGN_OR_RETURN(file.content, ParseTiktokenFile(data, file.path));
  } else {
    SL_ASSIGN_OR_RETURN(SentencePieceFile model,
                        ParseSentencePieceFile(data, file.path));
    SL_ASSIGN_OR_RETURN(
        file.added_tokens,
        ReadAddedTokens(directory, static_cast<int64_t>(model.pieces.size())));
    file.content = std::move(model);
  }
  return file;
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> TokenizerFile::Make() const {
  if (const auto* json =
          std::get_if<std::unique_ptr<TokenizerJson>>(&content)) {
    return MakeTokenizer(**json, path);
  }
  if (const auto* model = std::get_if<SentencePieceFile>(&content)) {
    return MakeSentencePieceTokenizer(*model, added_tokens, path);
  }
  return MakeTokenizer(std::get<TiktokenFile>(content), path);
}

absl::StatusOr<SpecialIds> TokenizerFile::FindSpecialIds(
    const Tokenizer& tokenizer) const {
  SL_ASSIGN_OR_RETURN(SpecialIds ids, ReadSpecialIds(directory, tokenizer));
  if (const auto* json =
          std::get_if<std::unique_ptr<TokenizerJson>>(&content)) {
    const TokenizerPipeline& pipeline = (*json)->pipeline;
    if (!ids.adds_bos) {
      ids.adds_bos = pipeline.begin_token.has_value() || ids.class_adds_bos;
    }
    if (!ids.adds_eos) ids.adds_eos = pipeline.end_token.has_value();
    return ids;
  }
  if (const auto* model = std::get_if<SentencePieceFile>(&content)) {
    if (!ids.bos) ids.bos = model->bos_id;
    if (!ids.eos) ids.eos = model->eos_id;
    if (!ids.padding) ids.padding = model->padding_id;
    ids.unknown = model->unknown_id;
  } else {
    if (!ids.bos) ids.bos = tokenizer.SpecialTokenId("<|begin_of_text|>");
    if (!ids.eos) ids.eos = tokenizer.SpecialTokenId("<|end_of_text|>");
  }
  if (!ids.adds_bos) ids.adds_bos = ids.class_adds_bos;
  if (!ids.adds_eos) ids.adds_eos = false;
  return ids;
}

}  // namespace sinklora
