// What must hold of every tokenizer that was accepted.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_FUZZ_TOKENIZER_CHECK_H_
#define SINKLORA_TESTS_FUZZ_TOKENIZER_CHECK_H_

#include <string>
#include <string_view>
#include <vector>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"
#include "tests/fuzz/fuzz_check.h"

namespace sinklora::fuzz {

// Ids are ids; every text that can be encoded can be decoded, at once and token
// by token, to the same.
inline void CheckEncoding(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    for (const auto start :
         {EncodeOptions::Start::kText, EncodeOptions::Start::kAfterToken,
          EncodeOptions::Start::kContinued}) {
      const auto ids = tokenizer.Encode(
          text, {.parse_special = parse_special, .start = start});
      if (!ids.ok()) continue;  // a regular expression without end
      const auto decoded = tokenizer.Decode(*ids);
      FUZZ_CHECK(decoded.ok());
      if (FindInvalidUtf8(*decoded) != std::string_view::npos) continue;
      StreamDecoder decoder(&tokenizer);
      std::string streamed;
      for (const int32_t id : *ids) {
        const std::string part = decoder.Append(id);
        FUZZ_CHECK(FindInvalidUtf8(part) == std::string_view::npos);
        streamed += part;
      }
      FUZZ_CHECK(streamed + decoder.Finish() == *decoded);
    }
  }
}

// With texts of all scripts, and with what the file itself ends with.
inline void CheckTokenizer(const Tokenizer& tokenizer, std::string_view file) {
  constexpr size_t kTailBytes = 64;
  CheckEncoding(tokenizer, "");
  CheckEncoding(tokenizer,
                " The  cat's 123 caf\u00e9 e\u0301 \u4e2d\u6587\u2581x\t\n\n"
                "\U0001F600 <s></s>[N] \u0e01\u0e33 aaaaaaaa");
  std::string_view tail =
      file.substr(file.size() - std::min(file.size(), kTailBytes));
  while (!tail.empty()) {
    const size_t invalid = FindInvalidUtf8(tail);
    if (invalid == std::string_view::npos) break;
    tail.remove_prefix(invalid + 1);
  }
  CheckEncoding(tokenizer, tail);
  std::vector<int32_t> all(std::min(tokenizer.vocab_size(), 2000));
  for (size_t id = 0; id < all.size(); ++id) {
    all[id] = static_cast<int32_t>(id);
  }
  FUZZ_CHECK(tokenizer.Decode(all).ok());
}

}  // namespace sinklora::fuzz

#endif  // SINKLORA_TESTS_FUZZ_TOKENIZER_CHECK_H_
