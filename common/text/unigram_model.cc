// SPDX-License-Identifier: Apache-2.0
#include "common/text/unigram_model.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "common/text/utf8.h"

namespace sinklora {
namespace {

// How much worse a character without a piece is than the worst piece.
constexpr float kUnknownPenalty = 10;
constexpr float kRestartScore = -65536;

bool IsSearched(const SentencePiece& piece) {
  return piece.type == PieceType::kNormal ||
         piece.type == PieceType::kUserDefined;
}

ByteTrie MakeTrie(const std::vector<SentencePiece>& pieces) {
  std::vector<std::pair<std::string, int32_t>> entries;
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (!IsSearched(pieces[id])) continue;
    entries.emplace_back(pieces[id].text, static_cast<int32_t>(id));
  }
  return ByteTrie(std::move(entries));
}

}  // namespace

UnigramModel::UnigramModel(const SentencePieceFile& file,
                           std::string_view space)
    : trie_(MakeTrie(file.pieces)),
      words_(std::string(space)),
      unknown_id_(file.unknown_id) {
  float min_score = std::numeric_limits<float>::max();
  max_score_ = std::numeric_limits<float>::lowest();
  for (const SentencePiece& piece : file.pieces) {
    scores_.push_back(piece.score);
    user_defined_.push_back(piece.type == PieceType::kUserDefined);
    if (IsSearched(piece)) words_.AddToken(piece.text);
    if (piece.type != PieceType::kNormal) continue;
    min_score = std::min(min_score, piece.score);
    max_score_ = std::max(max_score_, piece.score);
  }
  unknown_score_ = min_score - kUnknownPenalty;
}

void UnigramModel::Extend(std::string_view word, size_t start,
                          std::vector<Best>* best) const {
  const float so_far = (*best)[start].score;
  const size_t character = CharacterLength(word, start);
  bool has_single = false;
  const auto offer = [&](size_t length, int32_t id, double score) {
    Best& target = (*best)[start + length];
    if (target.start >= 0 && !(score > target.score)) return;
    target = {static_cast<float>(score), id, static_cast<int64_t>(start)};
  };
  uint32_t node = ByteTrie::kRoot;
  for (size_t i = start; i < word.size(); ++i) {
    node = trie_.Step(node, word[i]);
    if (node == ByteTrie::kNone) break;
    const int32_t id = trie_.value(node);
    if (id < 0) continue;
    const size_t length = i + 1 - start;
    // A user-defined piece outweighs everything else in its place.
    const double score = user_defined_[id]
                             ? static_cast<float>(length) * max_score_ - 0.1
                             : scores_[id];
    offer(length, id, score + so_far);
    has_single |= length == character;
  }
  if (!has_single) {
    offer(character, unknown_id_, unknown_score_ + so_far);
  }
}

float UnigramModel::EncodeWord(std::string_view word, float score,
                               std::vector<Best>* best,
                               std::vector<PieceSpan>* spans) const {
  best->assign(word.size() + 1, Best());
  (*best)[0].score = score < kRestartScore ? 0 : score;
  for (size_t i = 0; i < word.size(); i += CharacterLength(word, i)) {
    Extend(word, i, best);
  }
  spans->clear();
  for (size_t at = word.size(); at > 0;) {
    const Best& last = (*best)[at];
    const auto start = static_cast<size_t>(last.start);
    spans->push_back({start, at - start, last.id});
    at = start;
  }
  std::reverse(spans->begin(), spans->end());
  return best->back().score;
}

}  // namespace sinklora
