// SPDX-License-Identifier: Apache-2.0
#include "common/text/byte_level_tokenizer.h"

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/text/word_cache.h"

namespace sinklora {

ByteLevelTokenizer::ByteLevelTokenizer(ByteLevelOptions options)
    : VocabTokenizer(std::move(options.vocabulary)),
      merges_(std::move(options.merges)),
      byte_ids_(options.byte_ids),
      normalizer_(std::move(options.normalizer)),
      splits_(std::move(options.splits)),
      add_prefix_space_(options.add_prefix_space) {
  if (!options.ignore_merges) return;
  const std::vector<std::string>& tokens = vocabulary().token_bytes;
  for (size_t id = 0; id < tokens.size(); ++id) {
    // Special tokens have no bytes: text never becomes one of them.
    if (!tokens[id].empty()) {
      whole_words_.try_emplace(tokens[id], static_cast<int32_t>(id));
    }
  }
}

absl::Status ByteLevelTokenizer::EncodeNormalized(
    std::string_view text, Start start, std::vector<int32_t>* ids) const {
  std::string prefixed;
  if (add_prefix_space_ && start != Start::kContinued && text.front() != ' ') {
    prefixed.reserve(text.size() + 1);
    prefixed.push_back(' ');
    prefixed += text;
    text = prefixed;
  }
  std::vector<std::string_view> pieces = {text};
  for (const auto& split : splits_) {
    std::vector<std::string_view> finer;
    for (std::string_view piece : pieces) {
      SL_RETURN_IF_ERROR(split->Split(piece, &finer));
    }
    pieces = std::move(finer);
  }
  WordCache cache(ids);
  MergeTable::Scratch scratch;
  std::vector<int32_t> symbols;
  for (std::string_view piece : pieces) {
    if (cache.AppendKnown(piece)) continue;
    EncodeWord(piece, &scratch, &symbols);
    cache.AppendNew(piece, symbols);
  }
  return absl::OkStatus();
}

void ByteLevelTokenizer::EncodeWord(std::string_view word,
                                    MergeTable::Scratch* scratch,
                                    std::vector<int32_t>* symbols) const {
  symbols->clear();
  const auto whole = whole_words_.find(word);
  if (whole != whole_words_.end()) {
    symbols->push_back(whole->second);
    return;
  }
  for (char byte : word) {
    symbols->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  }
  merges_.Apply(symbols, scratch);
}

}  // namespace sinklora
