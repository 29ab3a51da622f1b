// The unigram language model of SentencePiece: of all ways to cut a text into
// pieces, the one whose scores add up to most.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_UNIGRAM_MODEL_H_
#define SINKLORA_COMMON_TEXT_UNIGRAM_MODEL_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/text/byte_trie.h"
#include "common/text/sentencepiece_file.h"
#include "common/text/word_bounds.h"

namespace sinklora {

// A stretch of text and the piece that it is.
struct PieceSpan {
  size_t begin;
  size_t length;
  int32_t id;
};

class UnigramModel {
 public:
  UnigramModel(const SentencePieceFile& file, std::string_view space);

  // Calls `consume(PieceSpan)` for each piece of `text`, which is normalized
  // and valid UTF-8; characters without a piece are the unknown piece. Linear
  // in the text's length times that of the longest piece; memory grows with the
  // longest word.
  //
  // Sums are kept in 32 bits from the start of the text on, as the reference
  // does, because which of two equally good ways wins is a matter of rounding.
  // Where a sum has lost the precision to tell ways apart (below -65536, about
  // 50 kB), it starts anew with the next word.
  template <typename Consume>
  void Encode(std::string_view text, Consume consume) const {
    std::vector<Best> best;
    std::vector<PieceSpan> spans;
    float score = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = words_.WordEnd(text, begin);
      score = EncodeWord(text.substr(begin, end - begin), score, &best, &spans);
      for (PieceSpan span : spans) {
        span.begin += begin;
        consume(span);
      }
      begin = end;
    }
  }

 private:
  struct Best {  // the best way that ends at a place
    float score = 0;
    int32_t id = -1;
    int64_t start = -1;  // -1: none does
  };
  // Replaces *spans; returns the sum.
  float EncodeWord(std::string_view word, float score, std::vector<Best>* best,
                   std::vector<PieceSpan>* spans) const;
  void Extend(std::string_view word, size_t start,
              std::vector<Best>* best) const;

  ByteTrie trie_;
  WordBounds words_;
  std::vector<float> scores_;  // by id
  std::vector<bool> user_defined_;
  int32_t unknown_id_;
  float unknown_score_;
  float max_score_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_UNIGRAM_MODEL_H_
