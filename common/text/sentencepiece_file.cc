// SPDX-License-Identifier: Apache-2.0
#include "common/text/sentencepiece_file.h"

#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/text/byte_token.h"
#include "common/text/proto_reader.h"
#include "common/text/string_map.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Numbers of fields and enums: sentencepiece_model.proto.
constexpr uint64_t kUnigram = 1;
constexpr uint64_t kBpe = 2;

struct RawModel {
  SentencePieceFile file;
  uint64_t model_type = kUnigram;
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string padding_piece = "<pad>";
  bool has_denormalizer = false;
};

bool ReadPiece(std::string_view data, SentencePiece* piece) {
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

bool ReadTrainerSpec(std::string_view data, RawModel* model) {
  ProtoReader reader(data);
  while (reader.Next()) {
    const uint64_t value = reader.varint();
    if (reader.field() == 3) model->model_type = value;
    if (reader.field() == 24) model->file.spaces_as_suffix = value != 0;
    if (reader.field() == 35) model->file.byte_fallback = value != 0;
    if (reader.field() == 44) model->file.unknown_surface = reader.bytes();
    if (reader.field() == 46) model->bos_piece = reader.bytes();
    if (reader.field() == 47) model->eos_piece = reader.bytes();
    if (reader.field() == 48) model->padding_piece = reader.bytes();
  }
  return !reader.malformed();
}

bool ReadNormalizerSpec(std::string_view data, SentencePieceFile* file) {
  ProtoReader reader(data);
  while (reader.Next()) {
    const bool value = reader.varint() != 0;
    if (reader.field() == 2) file->character_map = reader.bytes();
    if (reader.field() == 3) file->add_dummy_prefix = value;
    if (reader.field() == 4) file->remove_extra_spaces = value;
    if (reader.field() == 5) file->escape_spaces = value;
  }
  return !reader.malformed();
}

bool ReadDenormalizerSpec(std::string_view data, RawModel* model) {
  ProtoReader reader(data);
  while (reader.Next()) {
    if (reader.field() == 2 && !reader.bytes().empty()) {
      model->has_denormalizer = true;
    }
  }
  return !reader.malformed();
}

absl::StatusOr<RawModel> ReadModel(std::string_view data,
                                   const std::string& what) {
  RawModel model;
  ProtoReader reader(data);
  bool ok = true;
  while (ok && reader.Next()) {
    if (reader.field() == 1) {
      ok = ReadPiece(reader.bytes(), &model.file.pieces.emplace_back());
    } else if (reader.field() == 2) {
      ok = ReadTrainerSpec(reader.bytes(), &model);
    } else if (reader.field() == 3) {
      ok = ReadNormalizerSpec(reader.bytes(), &model.file);
    } else if (reader.field() == 5) {
      ok = ReadDenormalizerSpec(reader.bytes(), &model);
    }
  }
  if (!ok || reader.malformed()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: not a SentencePiece model: malformed data before byte {} of {}",
        what, reader.offset(), data.size()));
  }
  return model;
}

absl::Status CheckModelType(const RawModel& model, const std::string& what) {
  if (model.model_type != kUnigram && model.model_type != kBpe) {
    constexpr std::string_view kNames[] = {"0", "UNIGRAM", "BPE", "WORD",
                                           "CHAR"};
    const std::string name = model.model_type < std::size(kNames)
                                 ? std::string(kNames[model.model_type])
                                 : fmt::format("{}", model.model_type);
    return absl::InvalidArgumentError(
        fmt::format("{}: trainer_spec.model_type {} is not supported, only "
                    "UNIGRAM and BPE are",
                    what, name));
  }
  if (model.has_denormalizer) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: denormalizer_spec.precompiled_charsmap is not supported", what));
  }
  return absl::OkStatus();
}

absl::Status CheckPiece(const SentencePiece& piece, size_t id,
                        bool byte_fallback, const std::string& what) {
  if (piece.text.empty() ||
      FindInvalidUtf8(piece.text) != std::string_view::npos ||
      !std::isfinite(piece.score)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: piece {} is empty, not UTF-8 or has no finite score", what, id));
  }
  if (piece.type < PieceType::kNormal || piece.type > PieceType::kByte) {
    return absl::InvalidArgumentError(
        fmt::format("{}: piece {} '{}' has type {}, must be 1 to 6", what, id,
                    piece.text, static_cast<int>(piece.type)));
  }
  if (piece.type == PieceType::kByte) {
    if (!ParseByteToken(piece.text)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: byte piece {} is '{}', must be <0x00> to <0xFF>",
                      what, id, piece.text));
    }
    if (!byte_fallback) {
      return absl::InvalidArgumentError(
          fmt::format("{}: byte piece {} '{}' in a model whose byte_fallback "
                      "is false",
                      what, id, piece.text));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPieces(const SentencePieceFile& file,
                         const std::string& what) {
  if (file.pieces.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the model has no pieces", what));
  }
  StringViewMap<size_t> seen;
  int byte_pieces = 0;
  int unknown_pieces = 0;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePiece& piece = file.pieces[id];
    SL_RETURN_IF_ERROR(CheckPiece(piece, id, file.byte_fallback, what));
    const auto [it, inserted] = seen.try_emplace(piece.text, id);
    if (!inserted) {
      return absl::InvalidArgumentError(
          fmt::format("{}: pieces {} and {} are both '{}'", what, it->second,
                      id, piece.text));
    }
    byte_pieces += piece.type == PieceType::kByte;
    unknown_pieces += piece.type == PieceType::kUnknown;
  }
  if (unknown_pieces != 1) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the model has {} unknown pieces, must have one", what,
                    unknown_pieces));
  }
  if (file.byte_fallback && byte_pieces != 256) {
    return absl::InvalidArgumentError(
        fmt::format("{}: byte_fallback is true but the model has {} of 256 "
                    "byte pieces",
                    what, byte_pieces));
  }
  return absl::OkStatus();
}

std::optional<int32_t> ControlId(const SentencePieceFile& file,
                                 std::string_view text) {
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    if (file.pieces[id].type == PieceType::kControl &&
        file.pieces[id].text == text) {
      return static_cast<int32_t>(id);
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<SentencePieceFile> ParseSentencePieceFile(
    std::string_view data, const std::string& what) {
  SL_ASSIGN_OR_RETURN(RawModel model, ReadModel(data, what));
  SentencePieceFile& file = model.file;
  if (!file.pieces.empty()) SL_RETURN_IF_ERROR(CheckModelType(model, what));
  SL_RETURN_IF_ERROR(CheckPieces(file, what));
  if (FindInvalidUtf8(file.unknown_surface) != std::string_view::npos) {
    return absl::InvalidArgumentError(
        fmt::format("{}: trainer_spec.unk_surface is not UTF-8", what));
  }
  file.is_unigram = model.model_type == kUnigram;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    if (file.pieces[id].type == PieceType::kUnknown) {
      file.unknown_id = static_cast<int32_t>(id);
    }
  }
  file.bos_id = ControlId(file, model.bos_piece);
  file.eos_id = ControlId(file, model.eos_piece);
  file.padding_id = ControlId(file, model.padding_piece);
  return std::move(model.file);
}

}  // namespace sinklora
