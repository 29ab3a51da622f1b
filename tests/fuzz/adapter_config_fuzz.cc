// adapter_config.json: what is accepted says the same when written and read
// again, and its expressions are matched against a base without harm.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_config.h"
#include "common/weights/peft_names.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

sinklora::LlamaConfig SmallBase() {
  sinklora::LlamaConfig base;
  base.num_layers = 2;
  base.hidden_size = 32;
  base.intermediate_size = 64;
  base.num_heads = 4;
  base.num_kv_heads = 2;
  base.head_dim = 8;
  base.vocab_size = 100;
  base.max_position_embeddings = 64;
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sinklora::LlamaConfig base = SmallBase();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = sinklora::ParsePeftConfig(text, "an/adapter");
  if (!config.ok()) {
    sinklora::fuzz::CheckRefusal(config.status(), "an/adapter");
    return 0;
  }
  const std::string written = sinklora::ToJson(*config);
  const auto again = sinklora::ParsePeftConfig(written, "written");
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(sinklora::ToJson(*again) == written);
  const auto targets = sinklora::ResolveTargets(*config, base);
  if (!targets.ok()) {
    sinklora::fuzz::CheckRefusal(targets.status(), "");
    return 0;
  }
  const auto shapes = sinklora::BaseShapes(base);
  FUZZ_CHECK(!targets->lora.empty());
  for (const auto& [module, rank] : targets->lora) {
    FUZZ_CHECK(shapes.contains(module + ".weight"));
    FUZZ_CHECK(rank > 0);
  }
  return 0;
}
