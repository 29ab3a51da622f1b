// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/pre_tokenizers.h"

#include <vector>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

struct NameRow {
  std::string_view name;
  PreTokenizer meaning;
};
// The names that are written here come first, then those that mean the same.
constexpr NameRow kRows[] = {{"gpt-2", {"gpt-2", false, false}},
                             {"llama-bpe", {"llama-bpe", true, true}},
                             {"qwen2", {"qwen2", false, false}},
                             {"smollm", {"smollm", false, false}},
                             {"tekken", {"tekken", true, true}},
                             {"dbrx", {"llama-bpe", false, false}},
                             {"smaug-bpe", {"llama-bpe", false, false}},
                             {"llama3", {"llama-bpe", true, true}},
                             {"llama-v3", {"llama-bpe", true, true}},
                             {"falcon3", {"llama-bpe", true, true}},
                             {"pixtral", {"llama-bpe", true, true}},
                             {"deepseek-r1-qwen", {"qwen2", false, false}},
                             {"starcoder", {"smollm", false, false}},
                             {"phi-2", {"gpt-2", false, false}},
                             {"mpt", {"gpt-2", false, false}},
                             {"olmo", {"gpt-2", false, false}}};

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  for (const NameRow& row : kRows) {
    if (row.name == name) return &row.meaning;
  }
  return nullptr;
}

std::string_view PreTokenizerName(std::string_view pre_tokenizer,
                                  bool ignore_merges) {
  for (const NameRow& row : kRows) {
    if (row.meaning.pre_tokenizer == pre_tokenizer &&
        row.meaning.ignore_merges == ignore_merges) {
      return row.name;
    }
  }
  return "";
}

std::string PreTokenizerNames() {
  std::vector<std::string_view> names;
  for (const NameRow& row : kRows) names.push_back(row.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace sinklora
