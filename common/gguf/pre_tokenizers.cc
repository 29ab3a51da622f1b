// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/pre_tokenizers.h"

#include <vector>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

// As the models' own tokenizer.json files have them.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr PreTokenizer kGpt2Row = {PreSplit::kByteLevel, "", false, false};
constexpr PreTokenizer kLlama3Row = {PreSplit::kRegex, kLlama3, true, true};
constexpr PreTokenizer kQwen2Row = {PreSplit::kRegex, kQwen2, false, false};
constexpr PreTokenizer kSmollmRow = {PreSplit::kDigits, "", false, false};
constexpr PreTokenizer kTekkenRow = {PreSplit::kRegex, kTekken, true, true};
// Llama 3's expression without its shortcut for whole words.
constexpr PreTokenizer kDbrxRow = {PreSplit::kRegex, kLlama3, false, false};

struct NameRow {
  std::string_view name;
  const PreTokenizer* meaning;
};
// The names that are written here come first, then those that mean the same.
constexpr NameRow kRows[] = {
    {"gpt-2", &kGpt2Row},       {"llama-bpe", &kLlama3Row},
    {"qwen2", &kQwen2Row},      {"smollm", &kSmollmRow},
    {"tekken", &kTekkenRow},    {"dbrx", &kDbrxRow},
    {"smaug-bpe", &kDbrxRow},   {"llama3", &kLlama3Row},
    {"llama-v3", &kLlama3Row},  {"falcon3", &kLlama3Row},
    {"pixtral", &kLlama3Row},   {"deepseek-r1-qwen", &kQwen2Row},
    {"starcoder", &kSmollmRow}, {"phi-2", &kGpt2Row},
    {"mpt", &kGpt2Row},         {"olmo", &kGpt2Row}};

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  for (const NameRow& row : kRows) {
    if (row.name == name) return row.meaning;
  }
  return nullptr;
}

std::string PreTokenizerNames() {
  std::vector<std::string_view> names;
  for (const NameRow& row : kRows) names.push_back(row.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace sinklora
