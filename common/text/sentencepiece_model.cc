// SPDX-License-Identifier: Apache-2.0
#include "common/text/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/text/character_tokenizer.h"
#include "common/text/proto_reader.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Numbers of fields and enums: sentencepiece_model.proto.
enum class PieceType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string_view text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct Model {
  std::vector<Piece> pieces;
  uint64_t model_type = 1;  // unigram
  bool spaces_as_suffix = false;
  bool byte_fallback = false;
  int32_t bos_id = 1;
  int32_t eos_id = 2;
  std::string_view normalizer_name;
  bool has_character_map = false;
  bool add_dummy_prefix = true;
  bool remove_extra_spaces = true;
  bool escape_spaces = true;
};

bool ReadPiece(std::string_view data, Piece* piece) {
  ProtoReader reader(data);
  while (reader.Next()) {
    if (reader.field() == 1) piece->text = reader.bytes();
    if (reader.field() == 2) piece->score = reader.fixed_float();
    if (reader.field() == 3) {
      piece->type = static_cast<PieceType>(reader.varint());
    }
  }
  return !reader.malformed();
}

bool ReadTrainerSpec(std::string_view data, Model* model) {
  ProtoReader reader(data);
  while (reader.Next()) {
    const uint64_t value = reader.varint();
    if (reader.field() == 3) model->model_type = value;
    if (reader.field() == 24) model->spaces_as_suffix = value != 0;
    if (reader.field() == 35) model->byte_fallback = value != 0;
    if (reader.field() == 41) model->bos_id = static_cast<int32_t>(value);
    if (reader.field() == 42) model->eos_id = static_cast<int32_t>(value);
  }
  return !reader.malformed();
}

bool ReadNormalizerSpec(std::string_view data, Model* model) {
  ProtoReader reader(data);
  while (reader.Next()) {
    const bool value = reader.varint() != 0;
    if (reader.field() == 1) model->normalizer_name = reader.bytes();
    if (reader.field() == 2) model->has_character_map = !reader.bytes().empty();
    if (reader.field() == 3) model->add_dummy_prefix = value;
    if (reader.field() == 4) model->remove_extra_spaces = value;
    if (reader.field() == 5) model->escape_spaces = value;
  }
  return !reader.malformed();
}

absl::StatusOr<Model> ReadModel(std::string_view data,
                                const std::string& what) {
  Model model;
  ProtoReader reader(data);
  bool ok = true;
  while (ok && reader.Next()) {
    if (reader.field() == 1) {
      ok = ReadPiece(reader.bytes(), &model.pieces.emplace_back());
    } else if (reader.field() == 2) {
      ok = ReadTrainerSpec(reader.bytes(), &model);
    } else if (reader.field() == 3) {
      ok = ReadNormalizerSpec(reader.bytes(), &model);
    }
  }
  if (!ok || reader.malformed()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: not a SentencePiece model: malformed data before byte {} of {}",
        what, reader.offset(), data.size()));
  }
  return model;
}

absl::Status CheckSupported(const Model& model, const std::string& what) {
  constexpr uint64_t kBpe = 2;
  constexpr std::string_view kTypeNames[] = {"0", "UNIGRAM", "BPE", "WORD",
                                             "CHAR"};
  if (model.pieces.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the model has no pieces", what));
  }
  if (model.model_type != kBpe) {
    const std::string name = model.model_type < 5
                                 ? std::string(kTypeNames[model.model_type])
                                 : fmt::format("{}", model.model_type);
    return absl::InvalidArgumentError(
        fmt::format("{}: trainer_spec.model_type {} is not supported, only BPE "
                    "is",
                    what, name));
  }
  if (model.spaces_as_suffix) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: trainer_spec.treat_whitespace_as_suffix is not supported", what));
  }
  if (model.has_character_map && model.normalizer_name != "identity") {
    return absl::InvalidArgumentError(fmt::format(
        "{}: normalizer_spec.name '{}' is not supported, only identity is",
        what, model.normalizer_name));
  }
  return absl::OkStatus();
}

// Adds one piece of any type. `id` is its place in the file.
absl::Status AddPiece(const Piece& piece, int32_t id, const Model& model,
                      const std::string& what, CharacterOptions* options,
                      VocabularyBuilder* builder) {
  if (piece.text.empty() ||
      FindInvalidUtf8(piece.text) != std::string_view::npos ||
      !std::isfinite(piece.score)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: piece {} is empty, not UTF-8 or has no finite score", what, id));
  }
  switch (piece.type) {
    case PieceType::kControl:
      return builder->AddSpecial(id, piece.text);
    case PieceType::kUnknown:
      if (!model.byte_fallback) options->unknown_id = id;
      // What SentencePiece itself prints for it.
      return builder->AddToken(id, " \xE2\x81\x87 ", piece.text);
    case PieceType::kByte:
      if (!ParseByteToken(piece.text)) break;
      return AddCharacterToken(piece.text, id, model.escape_spaces, options,
                               builder);
    case PieceType::kUserDefined:
      options->literals.Add(piece.text, id);
      return AddCharacterToken(piece.text, id, model.escape_spaces, options,
                               builder);
    case PieceType::kNormal:
      if (ParseByteToken(piece.text)) break;
      return AddCharacterToken(piece.text, id, model.escape_spaces, options,
                               builder);
    case PieceType::kUnused:
      break;
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: piece {} '{}' of type {} is not supported", what, id,
                  piece.text, static_cast<int>(piece.type)));
}

// A SentencePiece model has scores instead of merges: any two neighbours whose
// concatenation is a piece may merge, the best score first.
MergeTable MakeMerges(const std::vector<Piece>& pieces) {
  StringViewMap<int32_t> ids;
  std::vector<float> scores;
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].type != PieceType::kNormal &&
        pieces[id].type != PieceType::kUserDefined) {
      continue;
    }
    ids.emplace(pieces[id].text, static_cast<int32_t>(id));
    scores.push_back(pieces[id].score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  MergeTable merges;
  for (const auto& [text, id] : ids) {
    // Equal scores get equal ranks: among them the leftmost pair goes first.
    const auto rank = static_cast<int32_t>(
        std::lower_bound(scores.begin(), scores.end(), pieces[id].score,
                         std::greater<>()) -
        scores.begin());
    size_t middle = 0;
    DecodeUtf8(text, &middle);
    while (middle < text.size()) {
      const auto left = ids.find(text.substr(0, middle));
      const auto right = ids.find(text.substr(middle));
      if (left != ids.end() && right != ids.end()) {
        merges.Add(left->second, right->second, rank, id);
      }
      DecodeUtf8(text, &middle);
    }
  }
  return merges;
}

std::optional<int32_t> ControlId(const Model& model, int32_t id) {
  const bool is_control = id >= 0 &&
                          static_cast<size_t>(id) < model.pieces.size() &&
                          model.pieces[id].type == PieceType::kControl;
  return is_control ? std::optional<int32_t>(id) : std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<VocabTokenizer>> ParseSentencePieceModel(
    std::string_view data, const std::string& what,
    const std::map<std::string, int32_t>& added_tokens, SpecialIds* ids) {
  SL_ASSIGN_OR_RETURN(const Model model, ReadModel(data, what));
  SL_RETURN_IF_ERROR(CheckSupported(model, what));
  CharacterOptions options;
  options.prefix = model.add_dummy_prefix ? CharacterOptions::Prefix::kAlways
                                          : CharacterOptions::Prefix::kNever;
  options.remove_extra_spaces = model.remove_extra_spaces;
  options.escape_spaces = model.escape_spaces;
  VocabularyBuilder builder(what);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    SL_RETURN_IF_ERROR(AddPiece(model.pieces[id], static_cast<int32_t>(id),
                                model, what, &options, &builder));
  }
  for (const auto& [text, id] : added_tokens) {
    SL_RETURN_IF_ERROR(builder.AddSpecial(id, text));
  }
  if (model.byte_fallback) {
    SL_RETURN_IF_ERROR(CheckByteTokens(options, what));
  } else if (!options.unknown_id) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: the model has neither byte_fallback nor an unknown piece", what));
  }
  options.merges = MakeMerges(model.pieces);
  SL_ASSIGN_OR_RETURN(options.vocabulary, builder.Build());
  options.vocabulary.strips_leading_space =
      model.add_dummy_prefix || model.remove_extra_spaces;
  ids->bos = ControlId(model, model.bos_id);
  ids->eos = ControlId(model, model.eos_id);
  return std::make_unique<CharacterTokenizer>(std::move(options));
}

}  // namespace sinklora
