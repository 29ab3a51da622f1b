// A model's config.json: what is accepted has sizes that can be computed with,
// and says the same when written and read again.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_config.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = sinklora::ParseLlamaConfig(text);
  if (!config.ok()) {
    sinklora::fuzz::CheckRefusal(config.status(), "config.json");
    return 0;
  }
  FUZZ_CHECK(config->parameter_count() > 0);
  FUZZ_CHECK(config->context_tokens() > 0);
  FUZZ_CHECK(config->num_heads % config->num_kv_heads == 0);
  const std::string written = sinklora::ToJson(*config);
  const auto again = sinklora::ParseLlamaConfig(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(sinklora::ToJson(*again) == written);
  return 0;
}
