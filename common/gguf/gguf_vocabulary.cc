// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/gguf/gguf_keys.h"
#include "common/gguf/pre_tokenizers.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
// Scores of tokens that are never merged.
constexpr float kUnusedScore = -10000;
// A vocabulary beyond this is a mistake.
constexpr int64_t kMaxTokens = int64_t{1} << 24;

absl::Status Unsupported(const std::string& what, const std::string& found,
                         const std::string& allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {}, {}", what, found, allowed));
}

std::string Replace(std::string_view text, std::string_view from,
                    std::string_view to) {
  std::string out;
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos;
       at = text.find(from, begin)) {
    out.append(text.substr(begin, at - begin)).append(to);
    begin = at + from.size();
  }
  return out.append(text.substr(begin));
}

// llama.cpp's name of the pre-tokenizer, which also says whether merges are
// ignored; empty when it has none.
std::string_view PreName(const VocabularyView& vocabulary) {
  return PreTokenizerName(vocabulary.pre_tokenizer, vocabulary.ignore_merges);
}

absl::Status CheckSupported(const VocabularyView& vocabulary,
                            int64_t vocab_size, const std::string& what) {
  const auto size = static_cast<int64_t>(vocabulary.pieces.size());
  if (size > vocab_size) {
    return Unsupported(
        what,
        fmt::format("token {} '{}' is beyond vocab_size {} of config.json",
                    size - 1, vocabulary.pieces.back(), vocab_size),
        "the model has no row for it");
  }
  if (vocabulary.kind == VocabularyKind::kUnigram) {
    return Unsupported(what, "a unigram tokenizer",
                       "GGUF export has byte-level and SentencePiece BPE");
  }
  if (!vocabulary.character_map.empty()) {
    return Unsupported(what, "the tokenizer maps characters before it splits",
                       "llama.cpp cannot do so");
  }
  if (vocabulary.remove_extra_spaces) {
    return Unsupported(what, "the tokenizer removes extra spaces",
                       "llama.cpp cannot do so");
  }
  if (!vocabulary.eos_id) {
    return Unsupported(what, "no end token is known",
                       "llama.cpp needs one (eos_token of "
                       "tokenizer_config.json or eos_token_id of config.json)");
  }
  const bool byte_level = vocabulary.kind == VocabularyKind::kByteLevelBpe;
  if (byte_level && vocabulary.pre_tokenizer.empty()) {
    return Unsupported(
        what,
        fmt::format("the pre-tokenizer '{}' is none that llama.cpp has",
                    vocabulary.split_patterns.empty()
                        ? ""
                        : vocabulary.split_patterns.front()),
        "must be that of gpt-2, llama-bpe, qwen2, smollm or tekken");
  }
  if (byte_level && PreName(vocabulary).empty()) {
    return Unsupported(
        what,
        fmt::format("ignore_merges {} with the pre-tokenizer {}",
                    vocabulary.ignore_merges, vocabulary.pre_tokenizer),
        "llama.cpp has it the other way");
  }
  if (byte_level && vocabulary.add_space_prefix) {
    return Unsupported(what, "a byte-level tokenizer with add_prefix_space",
                       "llama.cpp adds no space");
  }
  return absl::OkStatus();
}

// Token texts as llama.cpp wants them, with `vocab_size` entries.
absl::StatusOr<std::vector<std::string>> TokenTexts(
    const VocabularyView& vocabulary, int64_t vocab_size,
    const std::string& what) {
  std::vector<std::string> texts = vocabulary.pieces;
  if (vocabulary.kind != VocabularyKind::kByteLevelBpe) {
    // Looked for in the text before its spaces are escaped.
    for (size_t id = 0; id < texts.size(); ++id) {
      if (vocabulary.types[id] == PieceType::kUserDefined) {
        texts[id] = Replace(texts[id], kSpaceMark, " ");
      }
    }
  }
  for (auto id = static_cast<int64_t>(texts.size()); id < vocab_size; ++id) {
    texts.push_back(fmt::format("[PAD{}]", id));
  }
  std::set<std::string_view> seen;
  for (size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty() || !seen.insert(texts[id]).second) {
      return Unsupported(
          what,
          fmt::format("the text of token {} '{}' {}", id, texts[id],
                      texts[id].empty() ? "is empty" : "comes twice"),
          "llama.cpp needs texts that differ");
    }
  }
  return texts;
}

absl::StatusOr<int32_t> CheckedId(const GgufFile& file, const char* key,
                                  int64_t id, int64_t vocab_size) {
  if (id >= vocab_size) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, must be in [0, {})", file.what(), key,
                    id, vocab_size));
  }
  return static_cast<int32_t>(id);
}

absl::Status ReadId(const GgufFile& file, const char* key,
                    const VocabularyView& vocabulary,
                    std::optional<int32_t>* id) {
  SL_ASSIGN_OR_RETURN(const auto value, file.GetInt(key, UINT32_MAX));
  if (!value) return absl::OkStatus();
  SL_ASSIGN_OR_RETURN(
      *id, CheckedId(file, key, *value,
                     static_cast<int64_t>(vocabulary.pieces.size())));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ReadTexts(const GgufFile& file,
                                                   const char* key) {
  SL_ASSIGN_OR_RETURN(const auto views, file.GetStrings(key));
  if (!views) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is missing", file.what(), key));
  }
  std::vector<std::string> texts;
  texts.reserve(views->size());
  for (const std::string_view text : *views) {
    if (text.empty() || FindInvalidUtf8(text) != std::string_view::npos) {
      return absl::InvalidArgumentError(
          fmt::format("{}: key '{}': text {} is empty or not UTF-8",
                      file.what(), key, texts.size()));
    }
    texts.emplace_back(text);
  }
  return texts;
}

absl::Status CheckCount(const GgufFile& file, const char* key, size_t found,
                        size_t expected) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: key '{}' has {} entries, '{}' has {}", file.what(), key,
                  found, gguf_keys::kTokens, expected));
}

absl::Status ReadTypes(const GgufFile& file, VocabularyView* vocabulary) {
  SL_ASSIGN_OR_RETURN(const auto types, file.GetInt32s(gguf_keys::kTokenTypes));
  if (!types) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}' is missing", file.what(), gguf_keys::kTokenTypes));
  }
  SL_RETURN_IF_ERROR(CheckCount(file, gguf_keys::kTokenTypes, types->size(),
                                vocabulary->pieces.size()));
  for (size_t id = 0; id < types->size(); ++id) {
    const int32_t type = (*types)[id];
    if (type < static_cast<int32_t>(PieceType::kNormal) ||
        type > static_cast<int32_t>(PieceType::kByte)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: key '{}': token {} is of type {}, must be in [1, 6]",
                      file.what(), gguf_keys::kTokenTypes, id, type));
    }
    vocabulary->types.push_back(static_cast<PieceType>(type));
  }
  return absl::OkStatus();
}

// `num_tokens`: of the file; the vocabulary may end before.
absl::Status ReadScores(const GgufFile& file, size_t num_tokens,
                        VocabularyView* vocabulary) {
  SL_ASSIGN_OR_RETURN(const auto scores, file.GetFloats(gguf_keys::kScores));
  if (!scores) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}' is missing", file.what(), gguf_keys::kScores));
  }
  SL_RETURN_IF_ERROR(
      CheckCount(file, gguf_keys::kScores, scores->size(), num_tokens));
  vocabulary->scores = *scores;
  vocabulary->scores.resize(vocabulary->pieces.size());
  std::set<float> different;
  for (size_t id = 0; id < vocabulary->scores.size(); ++id) {
    if (!std::isfinite((*scores)[id])) {
      return absl::InvalidArgumentError(
          fmt::format("{}: key '{}': token {} has the score {}, must be finite",
                      file.what(), gguf_keys::kScores, id, (*scores)[id]));
    }
    if (vocabulary->types[id] == PieceType::kNormal && different.size() < 2) {
      different.insert((*scores)[id]);
    }
  }
  if (different.size() < 2) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}': all tokens have one score, so the order of merges was "
        "lost when the file was made; make it from tokenizer.model",
        file.what(), gguf_keys::kScores));
  }
  return absl::OkStatus();
}

// Of the kind "llama".
absl::Status ReadSentencePiece(const GgufFile& file, size_t num_tokens,
                               VocabularyView* vocabulary) {
  vocabulary->kind = VocabularyKind::kSentencePieceBpe;
  SL_RETURN_IF_ERROR(ReadScores(file, num_tokens, vocabulary));
  for (size_t id = 0; id < vocabulary->pieces.size(); ++id) {
    if (vocabulary->types[id] == PieceType::kUserDefined) {
      vocabulary->pieces[id] = Replace(vocabulary->pieces[id], " ", kSpaceMark);
    }
  }
  // llama.cpp's defaults for this kind.
  const auto size = static_cast<int32_t>(vocabulary->pieces.size());
  if (size > 0) vocabulary->unknown_id = 0;
  if (size > 1) vocabulary->bos_id = 1;
  if (size > 2) vocabulary->eos_id = 2;
  vocabulary->add_bos = true;
  SL_ASSIGN_OR_RETURN(const auto space,
                      file.GetBool(gguf_keys::kAddSpacePrefix));
  vocabulary->add_space_prefix = space.value_or(true);
  return absl::OkStatus();
}

// Of the kind "gpt2".
absl::Status ReadByteLevel(const GgufFile& file, VocabularyView* vocabulary) {
  vocabulary->kind = VocabularyKind::kByteLevelBpe;
  vocabulary->scores.assign(vocabulary->pieces.size(), 0);
  SL_ASSIGN_OR_RETURN(vocabulary->merges, ReadTexts(file, gguf_keys::kMerges));
  SL_ASSIGN_OR_RETURN(const auto pre, file.GetString(gguf_keys::kPre));
  const PreTokenizer* known = FindPreTokenizer(pre.value_or(""));
  if (known == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}' is {}, must be one of {}", file.what(), gguf_keys::kPre,
        pre ? fmt::format("'{}'", *pre) : "missing", PreTokenizerNames()));
  }
  vocabulary->pre_tokenizer = known->pre_tokenizer;
  for (const std::string_view pattern : SplitPatternsOf(known->pre_tokenizer)) {
    vocabulary->split_patterns.emplace_back(pattern);
  }
  vocabulary->ignore_merges = known->ignore_merges;
  vocabulary->add_bos = known->add_bos;
  return absl::OkStatus();
}

// The rows of a model may be more than its tokens.
absl::Status DropUnusedEnd(const GgufFile& file, VocabularyView* vocabulary) {
  size_t size = vocabulary->pieces.size();
  while (size > 0 && vocabulary->types[size - 1] == PieceType::kUnused) --size;
  vocabulary->pieces.resize(size);
  vocabulary->types.resize(size);
  if (size > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{}: key '{}' has no token in use", file.what(), gguf_keys::kTokens));
}

}  // namespace

absl::Status AddVocabulary(const VocabularyView& vocabulary, int64_t vocab_size,
                           const std::string& what, GgufHeader* header) {
  SL_RETURN_IF_ERROR(CheckSupported(vocabulary, vocab_size, what));
  SL_ASSIGN_OR_RETURN(const std::vector<std::string> texts,
                      TokenTexts(vocabulary, vocab_size, what));
  const bool byte_level = vocabulary.kind == VocabularyKind::kByteLevelBpe;
  header->AddString(gguf_keys::kTokenizer, byte_level ? "gpt2" : "llama");
  header->AddString(gguf_keys::kPre,
                    byte_level ? PreName(vocabulary) : "default");
  header->AddStrings(gguf_keys::kTokens, texts);
  if (!byte_level) {
    std::vector<float> scores = vocabulary.scores;
    scores.resize(texts.size(), kUnusedScore);
    header->AddFloats(gguf_keys::kScores, scores);
  }
  std::vector<int32_t> types;
  for (const PieceType type : vocabulary.types) {
    types.push_back(static_cast<int32_t>(type));
  }
  types.resize(texts.size(), static_cast<int32_t>(PieceType::kUnused));
  header->AddInt32s(gguf_keys::kTokenTypes, types);
  if (byte_level) header->AddStrings(gguf_keys::kMerges, vocabulary.merges);
  const std::pair<const char*, std::optional<int32_t>> ids[] = {
      {gguf_keys::kBosId, vocabulary.bos_id},
      {gguf_keys::kEosId, vocabulary.eos_id},
      {gguf_keys::kUnknownId, vocabulary.unknown_id},
      {gguf_keys::kPaddingId, vocabulary.padding_id}};
  for (const auto& [key, id] : ids) {
    if (id) header->AddUint32(key, static_cast<uint32_t>(*id));
  }
  header->AddBool(gguf_keys::kAddBos, vocabulary.add_bos);
  header->AddBool(gguf_keys::kAddEos, vocabulary.add_eos);
  header->AddBool(gguf_keys::kAddSpacePrefix, vocabulary.add_space_prefix);
  if (!vocabulary.chat_template.empty()) {
    header->AddString(gguf_keys::kChatTemplate, vocabulary.chat_template);
  }
  return absl::OkStatus();
}

absl::StatusOr<VocabularyView> ParseVocabulary(const GgufFile& file) {
  VocabularyView vocabulary;
  SL_ASSIGN_OR_RETURN(vocabulary.pieces, ReadTexts(file, gguf_keys::kTokens));
  const auto size = static_cast<int64_t>(vocabulary.pieces.size());
  if (size > kMaxTokens) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' has {} entries, the limit is {}", file.what(),
                    gguf_keys::kTokens, size, kMaxTokens));
  }
  SL_RETURN_IF_ERROR(ReadTypes(file, &vocabulary));
  SL_RETURN_IF_ERROR(DropUnusedEnd(file, &vocabulary));
  SL_ASSIGN_OR_RETURN(const auto kind, file.GetString(gguf_keys::kTokenizer));
  if (kind == "llama") {
    SL_RETURN_IF_ERROR(ReadSentencePiece(file, size, &vocabulary));
  } else if (kind == "gpt2") {
    SL_RETURN_IF_ERROR(ReadByteLevel(file, &vocabulary));
  } else {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}' is {}, must be 'llama' or 'gpt2'", file.what(),
        gguf_keys::kTokenizer, kind ? fmt::format("'{}'", *kind) : "missing"));
  }
  SL_RETURN_IF_ERROR(
      ReadId(file, gguf_keys::kBosId, vocabulary, &vocabulary.bos_id));
  SL_RETURN_IF_ERROR(
      ReadId(file, gguf_keys::kEosId, vocabulary, &vocabulary.eos_id));
  SL_RETURN_IF_ERROR(
      ReadId(file, gguf_keys::kUnknownId, vocabulary, &vocabulary.unknown_id));
  SL_RETURN_IF_ERROR(
      ReadId(file, gguf_keys::kPaddingId, vocabulary, &vocabulary.padding_id));
  SL_ASSIGN_OR_RETURN(const auto add_bos, file.GetBool(gguf_keys::kAddBos));
  SL_ASSIGN_OR_RETURN(const auto add_eos, file.GetBool(gguf_keys::kAddEos));
  vocabulary.add_bos = add_bos.value_or(vocabulary.add_bos);
  vocabulary.add_eos = add_eos.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto chat,
                      file.GetString(gguf_keys::kChatTemplate));
  vocabulary.chat_template = chat.value_or("");
  if (FindInvalidUtf8(vocabulary.chat_template) != std::string_view::npos) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: key '{}' is not UTF-8", file.what(), gguf_keys::kChatTemplate));
  }
  return vocabulary;
}

}  // namespace sinklora
