// SPDX-License-Identifier: Apache-2.0
#include "common/text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/text/byte_token.h"
#include "common/text/utf8.h"

namespace sinklora {
namespace {

class BpeTokenizer : public VocabTokenizer {
 public:
  BpeTokenizer(Vocabulary vocabulary, SentencePieceNormalizer normalizer,
               CharacterBpeOptions options)
      : VocabTokenizer(std::move(vocabulary)),
        normalizer_(std::move(normalizer)),
        model_(std::move(options)) {}

 protected:
  std::optional<std::string> Normalize(std::string_view text,
                                       Start start) const override {
    return normalizer_.Normalize(text, start != Start::kContinued);
  }
  absl::Status EncodeNormalized(std::string_view text, Start,
                                std::vector<int32_t>* ids) const override {
    model_.Encode(text, ids);
    return absl::OkStatus();
  }

 private:
  const SentencePieceNormalizer normalizer_;
  const CharacterBpe model_;
};

class UnigramTokenizer : public VocabTokenizer {
 public:
  // `byte_ids` is empty for models without byte fallback.
  UnigramTokenizer(Vocabulary vocabulary, SentencePieceNormalizer normalizer,
                   UnigramModel model, int32_t unknown_id,
                   std::vector<int32_t> byte_ids)
      : VocabTokenizer(std::move(vocabulary)),
        normalizer_(std::move(normalizer)),
        model_(std::move(model)),
        unknown_id_(unknown_id),
        byte_ids_(std::move(byte_ids)) {}

 protected:
  std::optional<std::string> Normalize(std::string_view text,
                                       Start start) const override {
    return normalizer_.Normalize(text, start != Start::kContinued);
  }
  absl::Status EncodeNormalized(std::string_view text, Start,
                                std::vector<int32_t>* ids) const override {
    bool last_unknown = false;
    model_.Encode(text, [&](const PieceSpan& span) {
      const bool unknown = span.id == unknown_id_;
      if (unknown && !byte_ids_.empty()) {
        for (char byte : text.substr(span.begin, span.length)) {
          ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
        }
      } else if (!unknown || !last_unknown) {
        ids->push_back(span.id);
      }
      last_unknown = unknown;
    });
    return absl::OkStatus();
  }

 private:
  const SentencePieceNormalizer normalizer_;
  const UnigramModel model_;
  const int32_t unknown_id_;
  const std::vector<int32_t> byte_ids_;
};

bool IsMerged(const SentencePiece& piece) {
  return piece.type == PieceType::kNormal ||
         piece.type == PieceType::kUserDefined ||
         piece.type == PieceType::kUnused;
}

absl::StatusOr<Vocabulary> MakeVocabulary(
    const SentencePieceFile& file, const std::vector<AddedToken>& added_tokens,
    const std::string& what) {
  VocabularyBuilder builder(what);
  absl::flat_hash_set<int32_t> keep_leading_space;
  std::vector<AddedToken> taken_whole = added_tokens;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const SentencePiece& piece = file.pieces[i];
    const auto id = static_cast<int64_t>(i);
    std::string bytes;
    if (piece.type == PieceType::kControl) {
      SL_RETURN_IF_ERROR(builder.AddSpecial(id, piece.text));
      taken_whole.push_back({id, piece.text, /*special=*/true});
      continue;
    }
    if (piece.type == PieceType::kUnknown) {
      bytes = file.unknown_surface;
    } else if (piece.type == PieceType::kByte) {
      bytes.push_back(static_cast<char>(*ParseByteToken(piece.text)));
    } else {
      bytes = absl::StrReplaceAll(piece.text, {{"\xE2\x96\x81", " "}});
    }
    if (bytes.starts_with(' ') && !piece.text.starts_with(kSpaceMark)) {
      keep_leading_space.insert(static_cast<int32_t>(id));
    }
    SL_RETURN_IF_ERROR(builder.AddToken(id, std::move(bytes), piece.text));
  }
  std::vector<std::string> patterns;
  for (const AddedToken& token : taken_whole) {
    patterns.push_back(token.content);
    if (static_cast<size_t>(token.id) < file.pieces.size()) continue;
    SL_RETURN_IF_ERROR(
        token.special
            ? builder.AddSpecial(token.id, token.content)
            : builder.AddToken(token.id, token.content, token.content));
  }
  SL_ASSIGN_OR_RETURN(Vocabulary vocabulary, builder.Build());
  vocabulary.raw_tokens =
      AddedTokenMatcher(std::move(taken_whole), std::move(patterns));
  vocabulary.leading_space =
      file.remove_extra_spaces ? LeadingSpace::kOneOfEachStripped
      : file.add_dummy_prefix  ? LeadingSpace::kOneStripped
                               : LeadingSpace::kKept;
  vocabulary.keep_leading_space = std::move(keep_leading_space);
  return vocabulary;
}

std::vector<int32_t> ByteIds(const SentencePieceFile& file) {
  std::vector<int32_t> ids;
  if (!file.byte_fallback) return ids;
  ids.resize(256);
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    if (file.pieces[id].type != PieceType::kByte) continue;
    ids[*ParseByteToken(file.pieces[id].text)] = static_cast<int32_t>(id);
  }
  return ids;
}

// Any two neighbours whose concatenation is a piece may merge, the best score
// first; equal scores get equal ranks: among them the leftmost goes first.
class MergesFromScores {
 public:
  MergesFromScores(const SentencePieceFile& file, CharacterBpeOptions* options)
      : pieces_(file.pieces), options_(options) {
    options_->first_virtual_id = static_cast<int32_t>(pieces_.size());
    for (size_t id = 0; id < pieces_.size(); ++id) {
      if (!IsMerged(pieces_[id])) continue;
      ids_.emplace(pieces_[id].text, static_cast<int32_t>(id));
      scores_.push_back(pieces_[id].score);
    }
    std::sort(scores_.begin(), scores_.end(), std::greater<>());
    scores_.erase(std::unique(scores_.begin(), scores_.end()), scores_.end());
  }

  void Add() {
    for (const auto& [text, id] : ids_) {
      const size_t first = CharacterLength(text, 0);
      if (first == text.size()) {
        options_->characters[std::string(text)] = id;
        continue;
      }
      const auto rank = static_cast<int32_t>(
          std::lower_bound(scores_.begin(), scores_.end(), pieces_[id].score,
                           std::greater<>()) -
          scores_.begin());
      for (size_t middle = first; middle < text.size();
           middle += CharacterLength(text, middle)) {
        const int32_t left = SymbolId(text.substr(0, middle));
        const int32_t right = left < 0 ? -1 : SymbolId(text.substr(middle));
        if (right >= 0) options_->merges.Add(left, right, rank, id);
      }
    }
  }

 private:
  // The piece, or a new symbol for a character that is none; -1 for others.
  int32_t SymbolId(std::string_view text) {
    const auto piece = ids_.find(text);
    if (piece != ids_.end()) return piece->second;
    if (CharacterLength(text, 0) != text.size()) return -1;
    std::vector<std::string>& characters = options_->virtual_characters;
    const auto [it, inserted] = options_->characters.try_emplace(
        std::string(text),
        options_->first_virtual_id + static_cast<int32_t>(characters.size()));
    if (inserted) characters.emplace_back(text);
    return it->second;
  }

  const std::vector<SentencePiece>& pieces_;
  CharacterBpeOptions* const options_;
  StringViewMap<int32_t> ids_;
  std::vector<float> scores_;
};

CharacterBpeOptions MakeBpeOptions(const SentencePieceFile& file,
                                   std::string_view space) {
  CharacterBpeOptions options{WordBounds(std::string(space))};
  const std::vector<int32_t> byte_ids = ByteIds(file);
  if (byte_ids.empty()) {
    options.unknown_id = file.unknown_id;
  } else {
    std::copy(byte_ids.begin(), byte_ids.end(), options.byte_ids.begin());
  }
  LiteralMatcher::Literals literals;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePiece& piece = file.pieces[id];
    if (IsMerged(piece)) options.words.AddToken(piece.text);
    if (piece.type == PieceType::kUserDefined) {
      literals.emplace_back(piece.text, static_cast<int32_t>(id));
    }
    if (piece.type == PieceType::kUnused) {
      options.unused.resize(file.pieces.size());
      options.unused[id] = true;
    }
  }
  options.literals = LiteralMatcher(std::move(literals));
  // How an unused piece is taken apart depends on all of the text.
  if (!options.unused.empty()) options.words.CutNowhere();
  MergesFromScores(file, &options).Add();
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeSentencePieceTokenizer(
    const SentencePieceFile& file, const std::vector<AddedToken>& added_tokens,
    const std::string& what) {
  SL_ASSIGN_OR_RETURN(SentencePieceNormalizer normalizer,
                      SentencePieceNormalizer::Create(file, what));
  SL_ASSIGN_OR_RETURN(Vocabulary vocabulary,
                      MakeVocabulary(file, added_tokens, what));
  const std::string_view space = normalizer.space();
  if (file.is_unigram) {
    return std::make_unique<UnigramTokenizer>(
        std::move(vocabulary), std::move(normalizer), UnigramModel(file, space),
        file.unknown_id, ByteIds(file));
  }
  return std::make_unique<BpeTokenizer>(std::move(vocabulary),
                                        std::move(normalizer),
                                        MakeBpeOptions(file, space));
}

}  // namespace sinklora
