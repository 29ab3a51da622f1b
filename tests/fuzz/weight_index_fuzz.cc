// model.safetensors.index.json: no shard name leads out of the directory.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/weights/weight_index.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto map = sinklora::ParseWeightIndex(text, "an/index");
  if (!map.ok()) {
    sinklora::fuzz::CheckRefusal(map.status(), "an/index");
    return 0;
  }
  FUZZ_CHECK(!map->empty());
  for (const auto& [tensor, shard] : *map) {
    FUZZ_CHECK(!shard.empty() && shard != "." && shard != "..");
    FUZZ_CHECK(shard.find_first_of(std::string_view("/\\\0", 3)) ==
               std::string::npos);
  }
  return 0;
}
