// SPDX-License-Identifier: Apache-2.0
#include "common/text/vocabulary_view.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/text/byte_alphabet.h"
#include "common/text/byte_token.h"
#include "common/text/chat_template_detection.h"
#include "common/text/split_regex.h"
#include "common/text/string_map.h"
#include "common/text/tokenizer_file.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

struct KnownSplit {
  std::string_view name;
  std::vector<std::string_view> patterns;
};

// What the published tokenizers split with, by llama.cpp's names.
const std::vector<KnownSplit>& KnownSplits() {
  static const auto& splits = *new std::vector<KnownSplit>{
      {"gpt-2", {kGpt2Regex}},
      {"llama-bpe", {kLlama3Regex}},
      {"qwen2",
       {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
      {"smollm", {"\\p{N}", kGpt2Regex}},
      {"tekken",
       {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}"
        "\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}"
        "\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}"
        "\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}};
  return splits;
}

std::string SplitName(const std::vector<std::string>& patterns) {
  for (const KnownSplit& known : KnownSplits()) {
    if (std::equal(patterns.begin(), patterns.end(), known.patterns.begin(),
                   known.patterns.end())) {
      return std::string(known.name);
    }
  }
  return std::string();
}

void Resize(size_t size, VocabularyView* view) {
  view->pieces.resize(size);
  view->scores.resize(size);
  view->types.resize(size, PieceType::kNormal);
}

void AddTokens(const std::vector<AddedToken>& tokens, VocabularyView* view) {
  for (const AddedToken& token : tokens) {
    view->pieces[token.id] = token.content;
    view->types[token.id] =
        token.special ? PieceType::kControl : PieceType::kUserDefined;
  }
}

// Ranks as SentencePiece writes them: what merges first has the highest score,
// single characters come last.
void ScoreByMerges(const std::vector<MergePair>& merges,
                   const StringViewMap<int32_t>& vocab, VocabularyView* view) {
  const auto last = -static_cast<float>(merges.size());
  for (const auto& [text, id] : vocab) {
    if (view->types[id] == PieceType::kNormal) view->scores[id] = last;
  }
  for (size_t rank = merges.size(); rank-- > 0;) {
    const std::string merged =
        std::string(merges[rank].first) + std::string(merges[rank].second);
    const auto it = vocab.find(merged);
    if (it != vocab.end()) view->scores[it->second] = -static_cast<float>(rank);
  }
}

absl::Status FillFromJson(const TokenizerJson& file, const std::string& what,
                          VocabularyView* view) {
  const TokenizerPipeline& pipeline = file.pipeline;
  for (const auto& [text, id] : file.vocab) {
    view->pieces[id] = text;
    if (pipeline.byte_level) continue;
    if (pipeline.decodes_bytes && ParseByteToken(text)) {
      view->types[id] = PieceType::kByte;
    }
  }
  AddTokens(file.added_tokens, view);
  SL_ASSIGN_OR_RETURN(const auto merges, ParseMergePairs(*file.model, what));
  for (const auto& [left, right] : merges) {
    view->merges.push_back(fmt::format("{} {}", left, right));
  }
  if (pipeline.byte_level) {
    view->kind = VocabularyKind::kByteLevelBpe;
    view->split_patterns = pipeline.split_patterns;
    view->add_space_prefix = pipeline.add_prefix_space;
    view->ignore_merges = file.ignore_merges;
    return absl::OkStatus();
  }
  view->kind = VocabularyKind::kSentencePieceBpe;
  view->add_space_prefix =
      pipeline.normalizer_prepends_space ||
      (pipeline.metaspace &&
       pipeline.metaspace->prepend != Metaspace::Prepend::kNever);
  if (file.unknown_token) {
    const auto it = file.vocab.find(*file.unknown_token);
    if (it != file.vocab.end()) {
      view->unknown_id = it->second;
      view->types[it->second] = PieceType::kUnknown;
    }
  }
  ScoreByMerges(merges, file.vocab, view);
  return absl::OkStatus();
}

void FillFromModel(const SentencePieceFile& file,
                   const std::vector<AddedToken>& added_tokens,
                   VocabularyView* view) {
  view->kind = file.is_unigram ? VocabularyKind::kUnigram
                               : VocabularyKind::kSentencePieceBpe;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    view->pieces[id] = file.pieces[id].text;
    view->scores[id] = file.pieces[id].score;
    view->types[id] = file.pieces[id].type;
  }
  AddTokens(added_tokens, view);
  view->add_space_prefix = file.add_dummy_prefix;
  view->remove_extra_spaces = file.remove_extra_spaces;
  view->character_map = file.character_map;
}

void FillFromTiktoken(const TiktokenFile& file, VocabularyView* view) {
  view->kind = VocabularyKind::kByteLevelBpe;
  view->split_patterns = {std::string(kLlama3Regex)};
  view->ignore_merges = true;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    view->pieces[id] = BytesToAlphabet(file.tokens[id]);
  }
  for (size_t i = 0; i < file.special_tokens.size(); ++i) {
    view->pieces[file.tokens.size() + i] = file.special_tokens[i];
    view->types[file.tokens.size() + i] = PieceType::kControl;
  }
  for (const TiktokenMerge& merge : TiktokenMerges(file)) {
    view->merges.push_back(fmt::format("{} {}", view->pieces[merge.left],
                                       view->pieces[merge.right]));
  }
}

}  // namespace

std::vector<std::string_view> SplitPatternsOf(std::string_view pre_tokenizer) {
  for (const KnownSplit& known : KnownSplits()) {
    if (known.name == pre_tokenizer) return known.patterns;
  }
  return {};
}

absl::StatusOr<VocabularyView> ReadVocabularyView(
    const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const TokenizerFile file, TokenizerFile::Read(directory));
  // Checks what reading alone does not, such as ids without holes.
  SL_ASSIGN_OR_RETURN(const auto tokenizer, file.Make());
  SL_ASSIGN_OR_RETURN(const SpecialIds ids, file.FindSpecialIds(*tokenizer));
  VocabularyView view;
  Resize(static_cast<size_t>(tokenizer->vocab_size()), &view);
  view.unknown_id = ids.unknown;
  if (const auto* json =
          std::get_if<std::unique_ptr<TokenizerJson>>(&file.content)) {
    SL_RETURN_IF_ERROR(FillFromJson(**json, file.path, &view));
  } else if (const auto* model =
                 std::get_if<SentencePieceFile>(&file.content)) {
    FillFromModel(*model, file.added_tokens, &view);
  } else {
    FillFromTiktoken(std::get<TiktokenFile>(file.content), &view);
  }
  view.pre_tokenizer = SplitName(view.split_patterns);
  SL_ASSIGN_OR_RETURN(const auto chat_template, ReadChatTemplate(directory));
  view.chat_template = chat_template.value_or("");
  view.bos_id = ids.bos;
  view.eos_id = ids.eos;
  view.padding_id = ids.padding;
  view.add_bos = ids.bos.has_value() && *ids.adds_bos;
  view.add_eos = ids.eos.has_value() && *ids.adds_eos;
  return view;
}

}  // namespace sinklora
