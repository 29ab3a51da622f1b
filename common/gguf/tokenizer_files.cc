// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/tokenizer_files.h"

#include <cstring>
#include <optional>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/split_regex.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::ordered_json;

// A token that is matched as a whole; unused ones keep their place as special
// tokens that no text yields.
bool IsAdded(PieceType type) { return type != PieceType::kNormal; }

// Adds a key that is known to be new: operator[] would search all of them.
void AddNewKey(const std::string& key, ordered_json value,
               ordered_json* object) {
  object->get_ref<ordered_json::object_t&>().push_back({key, std::move(value)});
}

ordered_json AddedToken(const VocabularyView& vocabulary, size_t id) {
  return {{"content", vocabulary.pieces[id]},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", vocabulary.types[id] != PieceType::kUserDefined}};
}

ordered_json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

// Each pattern as what the published files have for it.
ordered_json PreTokenizerJson(const std::vector<std::string>& patterns) {
  if (patterns.size() == 1 && patterns[0] == kGpt2Regex) return ByteLevel(true);
  ordered_json steps = ordered_json::array();
  bool ends_with_gpt2 = false;
  for (const std::string& pattern : patterns) {
    ends_with_gpt2 = pattern == kGpt2Regex;
    if (ends_with_gpt2) break;  // ByteLevel has it
    if (pattern == R"(\p{N})") {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
      continue;
    }
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(ByteLevel(ends_with_gpt2));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// Adds begin and end token where the vocabulary asks for them.
ordered_json PostProcessor(const VocabularyView& vocabulary) {
  const bool bos = vocabulary.add_bos && vocabulary.bos_id;
  const bool eos = vocabulary.add_eos && vocabulary.eos_id;
  if (!bos && !eos) return ByteLevel(true);
  ordered_json single = ordered_json::array(), pair = ordered_json::array();
  ordered_json specials = ordered_json::object();
  const auto add_special = [&](int32_t id, int type_id, ordered_json* list) {
    const std::string& text = vocabulary.pieces[id];
    list->push_back({{"SpecialToken", {{"id", text}, {"type_id", type_id}}}});
    specials[text] = {{"id", text},
                      {"ids", ordered_json::array({id})},
                      {"tokens", ordered_json::array({text})}};
  };
  const auto add_sequence = [&](const char* name, int type_id,
                                ordered_json* list) {
    if (bos) add_special(*vocabulary.bos_id, type_id, list);
    list->push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
    if (eos) add_special(*vocabulary.eos_id, type_id, list);
  };
  add_sequence("A", 0, &single);
  add_sequence("A", 0, &pair);
  add_sequence("B", 1, &pair);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(specials)}};
}

// SentencePiece's protobuf, as far as a model needs it.
class ProtoWriter {
 public:
  void Varint(uint32_t field, uint64_t value) {
    Raw(field << 3);
    Raw(value);
  }
  void Float(uint32_t field, float value) {
    Raw(field << 3 | 5);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Bytes(uint32_t field, std::string_view value) {
    Raw(field << 3 | 2);
    Raw(value.size());
    bytes_.append(value);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      bytes_ += static_cast<char>(value | 0x80);
    }
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

ordered_json TokenizerConfig(const VocabularyView& vocabulary,
                             int64_t context_tokens) {
  const bool byte_level = vocabulary.kind == VocabularyKind::kByteLevelBpe;
  ordered_json config;
  config["add_bos_token"] = vocabulary.add_bos;
  config["add_eos_token"] = vocabulary.add_eos;
  ordered_json added = ordered_json::object();
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const PieceType type = vocabulary.types[id];
    if (!IsAdded(type) || type == PieceType::kByte) continue;
    AddNewKey(fmt::format("{}", id), AddedToken(vocabulary, id), &added);
  }
  config["added_tokens_decoder"] = std::move(added);
  const std::pair<const char*, std::optional<int32_t>> tokens[] = {
      {"bos_token", vocabulary.bos_id},
      {"eos_token", vocabulary.eos_id},
      {"pad_token", vocabulary.padding_id},
      {"unk_token", vocabulary.unknown_id}};
  for (const auto& [key, id] : tokens) {
    if (id) config[key] = vocabulary.pieces[*id];
  }
  if (!vocabulary.chat_template.empty()) {
    config["chat_template"] = vocabulary.chat_template;
  }
  config["clean_up_tokenization_spaces"] = false;
  config["model_max_length"] = context_tokens;
  if (!byte_level) {
    config["add_prefix_space"] = vocabulary.add_space_prefix;
    config["legacy"] = true;
    config["sp_model_kwargs"] = ordered_json::object();
  }
  config["tokenizer_class"] =
      byte_level ? "PreTrainedTokenizerFast" : "LlamaTokenizer";
  return config;
}

}  // namespace

std::string MakeTokenizerJson(const VocabularyView& vocabulary) {
  ordered_json added = ordered_json::array();
  ordered_json vocab = ordered_json::object();
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (IsAdded(vocabulary.types[id])) {
      ordered_json token = {{"id", id}};
      token.update(AddedToken(vocabulary, id));
      added.push_back(std::move(token));
    } else {
      AddNewKey(vocabulary.pieces[id], id, &vocab);
    }
  }
  const ordered_json root = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", nullptr},
      {"pre_tokenizer", PreTokenizerJson(vocabulary.split_patterns)},
      {"post_processor", PostProcessor(vocabulary)},
      {"decoder", ByteLevel(true)},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", vocabulary.ignore_merges},
        {"vocab", std::move(vocab)},
        {"merges", vocabulary.merges}}}};
  return root.dump(2) + "\n";
}

// Numbers of fields: sentencepiece_model.proto.
std::string MakeSentencePieceModel(const VocabularyView& vocabulary) {
  constexpr uint64_t kBpe = 2;
  ProtoWriter model;
  bool byte_fallback = false;
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    ProtoWriter piece;
    piece.Bytes(1, vocabulary.pieces[id]);
    piece.Float(2, vocabulary.scores[id]);
    piece.Varint(3, static_cast<uint64_t>(vocabulary.types[id]));
    model.Bytes(1, piece.bytes());
    byte_fallback |= vocabulary.types[id] == PieceType::kByte;
  }
  ProtoWriter trainer;
  trainer.Varint(3, kBpe);
  trainer.Varint(4, vocabulary.pieces.size());
  trainer.Varint(35, byte_fallback ? 1 : 0);
  // -1 when there is none, as a 64-bit varint.
  const auto put_id = [&](uint32_t field, std::optional<int32_t> id) {
    trainer.Varint(field, static_cast<uint64_t>(int64_t{id.value_or(-1)}));
  };
  put_id(40, vocabulary.unknown_id);
  put_id(41, vocabulary.bos_id);
  put_id(42, vocabulary.eos_id);
  put_id(43, vocabulary.padding_id);
  const std::pair<uint32_t, std::optional<int32_t>> names[] = {
      {45, vocabulary.unknown_id},
      {46, vocabulary.bos_id},
      {47, vocabulary.eos_id},
      {48, vocabulary.padding_id}};
  for (const auto& [field, id] : names) {
    if (id) trainer.Bytes(field, vocabulary.pieces[*id]);
  }
  model.Bytes(2, trainer.bytes());
  ProtoWriter normalizer;
  normalizer.Bytes(1, "identity");
  normalizer.Bytes(2, vocabulary.character_map);
  normalizer.Varint(3, vocabulary.add_space_prefix ? 1 : 0);
  normalizer.Varint(4, vocabulary.remove_extra_spaces ? 1 : 0);
  normalizer.Varint(5, 1);  // spaces as U+2581
  model.Bytes(3, normalizer.bytes());
  return model.bytes();
}

absl::Status WriteTokenizerFiles(const VocabularyView& vocabulary,
                                 int64_t context_tokens,
                                 const std::string& directory) {
  if (vocabulary.kind == VocabularyKind::kByteLevelBpe) {
    SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(directory, "tokenizer.json"),
                                       MakeTokenizerJson(vocabulary)));
  } else {
    SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(directory, "tokenizer.model"),
                                       MakeSentencePieceModel(vocabulary)));
  }
  const ordered_json config = TokenizerConfig(vocabulary, context_tokens);
  return WriteFileAtomic(JoinPath(directory, "tokenizer_config.json"),
                         config.dump(2) + "\n");
}

}  // namespace sinklora
