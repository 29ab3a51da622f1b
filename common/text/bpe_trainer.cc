// SPDX-License-Identifier: Apache-2.0
#include "common/text/bpe_trainer.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/status.h"
#include "common/text/bpe_pair_counts.h"
#include "common/text/byte_alphabet.h"
#include "common/text/split_regex.h"
#include "common/text/string_map.h"
#include "common/text/utf8.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::ordered_json;

// Longer pieces (rules of dashes, encoded data) are no words, and would be
// searched again at every merge.
constexpr size_t kMaxWordBytes = 256;

absl::Status CheckOptions(const BpeTrainerOptions& options) {
  const auto smallest =
      static_cast<int64_t>(256 + options.special_tokens.size());
  if (options.vocab_size < smallest) {
    return absl::InvalidArgumentError(fmt::format(
        "vocab_size is {}, must be at least {}: 256 bytes and {} special "
        "tokens",
        options.vocab_size, smallest, options.special_tokens.size()));
  }
  std::vector<std::string> sorted = options.special_tokens;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].empty() ||
        FindInvalidUtf8(sorted[i]) != std::string_view::npos ||
        (i > 0 && sorted[i] == sorted[i - 1])) {
      return absl::InvalidArgumentError(fmt::format(
          "special token '{}' is empty, not UTF-8 or given twice", sorted[i]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StringViewMap<int64_t>> CountWords(
    const std::vector<std::string>& texts) {
  SL_ASSIGN_OR_RETURN(const auto split, SplitRegex::Create(kGpt2Regex));
  StringViewMap<int64_t> counts;
  for (size_t i = 0; i < texts.size(); ++i) {
    const size_t invalid = FindInvalidUtf8(texts[i]);
    if (invalid != std::string_view::npos) {
      return absl::InvalidArgumentError(
          fmt::format("text {} is not valid UTF-8 at offset {}", i, invalid));
    }
    SL_RETURN_IF_ERROR(split->Split(texts[i], [&](std::string_view piece) {
      if (piece.size() <= kMaxWordBytes) ++counts[piece];
      return absl::OkStatus();
    }));
  }
  return counts;
}

// The merges and the tokens they make, as (left, right) ids.
absl::StatusOr<std::vector<std::pair<int32_t, int32_t>>> LearnMerges(
    const StringViewMap<int64_t>& words, const BpeTrainerOptions& options) {
  const auto first_byte = static_cast<int32_t>(options.special_tokens.size());
  BpePairCounts counts;
  for (const auto& [word, count] : words) {
    std::vector<int32_t> symbols;
    for (char byte : word) {
      symbols.push_back(first_byte + static_cast<uint8_t>(byte));
    }
    counts.AddWord(std::move(symbols), count);
  }
  std::vector<std::pair<int32_t, int32_t>> merges;
  for (int32_t id = first_byte + 256; id < options.vocab_size; ++id) {
    const std::optional<BpePairCounts::Pair> best = counts.MostFrequent();
    if (!best) {
      return absl::InvalidArgumentError(
          fmt::format("the texts yield only {} tokens, vocab_size is {}", id,
                      options.vocab_size));
    }
    merges.push_back(*best);
    counts.Merge(*best, id);
  }
  return merges;
}

ordered_json ByteLevelPart() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", true}};
}

ordered_json AddedTokens(const std::vector<std::string>& special_tokens) {
  ordered_json list = ordered_json::array();
  for (size_t id = 0; id < special_tokens.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", special_tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

ordered_json Model(const BpeTrainerOptions& options,
                   const std::vector<std::pair<int32_t, int32_t>>& merges) {
  std::vector<std::string> tokens = options.special_tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(ByteToAlphabet(static_cast<uint8_t>(byte)));
  }
  ordered_json merge_list = ordered_json::array();
  for (const auto& [left, right] : merges) {
    merge_list.push_back(tokens[left] + " " + tokens[right]);
    tokens.push_back(tokens[left] + tokens[right]);
  }
  ordered_json::object_t vocab;
  for (size_t id = 0; id < tokens.size(); ++id) {
    // Appended without the search for the key that operator[] does.
    vocab.ordered_json::object_t::Container::emplace_back(tokens[id], id);
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merge_list)}};
}

// With a special token to begin with, other libraries put it before each text
// as this product does.
ordered_json PostProcessor(const std::vector<std::string>& special_tokens) {
  if (special_tokens.empty()) return nullptr;
  const std::string& begin = special_tokens.front();
  const auto special = [&](int type) -> ordered_json {
    return {{"SpecialToken", {{"id", begin}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* id, int type) -> ordered_json {
    return {{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  ordered_json out;
  out["type"] = "TemplateProcessing";
  out["single"] = ordered_json::array({special(0), sequence("A", 0)});
  out["pair"] = ordered_json::array(
      {special(0), sequence("A", 0), special(1), sequence("B", 1)});
  out["special_tokens"][begin] = {{"id", begin},
                                  {"ids", ordered_json::array({0})},
                                  {"tokens", ordered_json::array({begin})}};
  return out;
}

}  // namespace

absl::StatusOr<std::string> TrainByteLevelBpe(
    const std::vector<std::string>& texts, const BpeTrainerOptions& options) {
  SL_RETURN_IF_ERROR(CheckOptions(options));
  SL_ASSIGN_OR_RETURN(const auto words, CountWords(texts));
  SL_ASSIGN_OR_RETURN(const auto merges, LearnMerges(words, options));
  ordered_json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = AddedTokens(options.special_tokens);
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = ByteLevelPart();
  root["post_processor"] = PostProcessor(options.special_tokens);
  root["decoder"] = ByteLevelPart();
  root["model"] = Model(options, merges);
  return root.dump(1) + "\n";
}

}  // namespace sinklora
