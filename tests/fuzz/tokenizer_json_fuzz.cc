// tokenizer.json: every form of it, and text through what was accepted.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_json.h"
#include "tests/fuzz/tokenizer_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = sinklora::ParseTokenizerJson(text, "tokenizer.json");
  if (!file.ok()) {
    sinklora::fuzz::CheckRefusal(file.status(), "tokenizer.json");
    return 0;
  }
  const auto tokenizer = sinklora::MakeTokenizer(**file, "tokenizer.json");
  if (!tokenizer.ok()) {
    sinklora::fuzz::CheckRefusal(tokenizer.status(), "tokenizer.json");
    return 0;
  }
  sinklora::fuzz::CheckTokenizer(**tokenizer, text);
  return 0;
}
