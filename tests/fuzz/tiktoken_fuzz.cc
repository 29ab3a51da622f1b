// tiktoken's ranks, and text through what was accepted.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/text/tiktoken_file.h"
#include "tests/fuzz/tokenizer_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = sinklora::ParseTiktokenFile(text, "tokenizer.model");
  if (!file.ok()) {
    sinklora::fuzz::CheckRefusal(file.status(), "tokenizer.model");
    return 0;
  }
  const auto tokenizer = sinklora::MakeTokenizer(*file, "tokenizer.model");
  FUZZ_CHECK(tokenizer.ok());
  sinklora::fuzz::CheckTokenizer(**tokenizer, text);
  return 0;
}
