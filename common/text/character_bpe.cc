// SPDX-License-Identifier: Apache-2.0
#include "common/text/character_bpe.h"

#include <utility>

#include "common/text/utf8.h"
#include "common/text/word_cache.h"

namespace sinklora {

void CharacterBpe::Encode(std::string_view text,
                          std::vector<int32_t>* ids) const {
  const size_t first = ids->size();
  size_t done = 0;
  while (done < text.size()) {
    const LiteralMatcher::Match match = options_.literals.Find(text, done);
    const bool found = match.length > 0;
    const size_t end = found ? match.offset : text.size();
    EncodeSegment(text.substr(done, end - done), ids);
    done = end;
    if (found) {
      ids->push_back(match.id);
      done += match.length;
    }
  }
  if (!options_.unknown_id || !options_.fuse_unknown) return;
  size_t kept = first;
  for (size_t i = first; i < ids->size(); ++i) {
    const int32_t id = (*ids)[i];
    if (id == *options_.unknown_id && kept > first && (*ids)[kept - 1] == id) {
      continue;
    }
    (*ids)[kept++] = id;
  }
  ids->resize(kept);
}

void CharacterBpe::EncodeSegment(std::string_view text,
                                 std::vector<int32_t>* ids) const {
  WordCache cache(ids);
  MergeTable::Scratch scratch;
  std::vector<int32_t> symbols;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = options_.words.WordEnd(text, begin);
    const std::string_view word = text.substr(begin, end - begin);
    begin = end;
    if (cache.AppendKnown(word)) continue;
    EncodeWord(word, &scratch, &symbols);
    cache.AppendNew(word, symbols);
  }
}

void CharacterBpe::EncodeWord(std::string_view word,
                              MergeTable::Scratch* scratch,
                              std::vector<int32_t>* symbols) const {
  symbols->clear();
  for (size_t i = 0; i < word.size();) {
    const size_t length = CharacterLength(word, i);
    const std::string_view character = word.substr(i, length);
    const auto it = options_.characters.find(character);
    if (it != options_.characters.end()) {
      symbols->push_back(it->second);
    } else {
      AppendUnknown(character, symbols);
    }
    i += length;
  }
  if (options_.unused.empty()) {
    options_.merges.Apply(symbols, scratch);
    if (!options_.virtual_characters.empty()) Resolve({}, symbols);
    return;
  }
  Halves halves(options_.unused.size(), {-1, -1});
  options_.merges.Apply(symbols, scratch,
                        [&](int32_t merged, int32_t left, int32_t right) {
                          halves[merged] = {left, right};
                        });
  Resolve(halves, symbols);
}

void CharacterBpe::Resolve(const Halves& halves,
                           std::vector<int32_t>* symbols) const {
  std::vector<int32_t> out;
  std::vector<int32_t> open(symbols->rbegin(), symbols->rend());
  while (!open.empty()) {
    const int32_t id = open.back();
    open.pop_back();
    if (id >= options_.first_virtual_id) {
      AppendUnknown(options_.virtual_characters[id - options_.first_virtual_id],
                    &out);
    } else if (static_cast<size_t>(id) < halves.size() && options_.unused[id] &&
               halves[id].first >= 0) {
      open.push_back(halves[id].second);
      open.push_back(halves[id].first);
    } else {
      out.push_back(id);
    }
  }
  *symbols = std::move(out);
}

void CharacterBpe::AppendUnknown(std::string_view character,
                                 std::vector<int32_t>* ids) const {
  if (options_.unknown_id) {
    ids->push_back(*options_.unknown_id);
    return;
  }
  for (char byte : character) {
    ids->push_back(options_.byte_ids[static_cast<uint8_t>(byte)]);
  }
}

}  // namespace sinklora
