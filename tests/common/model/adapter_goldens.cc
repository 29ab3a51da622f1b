// SPDX-License-Identifier: Apache-2.0
#include "tests/common/model/adapter_goldens.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "common/base/files.h"

namespace sinklora {

std::string GoldenPath(const std::string& name) {
  const char* root = std::getenv("SINKLORA_SOURCE_DIR");
  EXPECT_NE(root, nullptr) << "SINKLORA_SOURCE_DIR is not set";
  return JoinPath(
      JoinPath(root == nullptr ? "." : root, "tests/parity/data/adapters"),
      name);
}

absl::StatusOr<AdapterGolden> AdapterGolden::Load(const std::string& name) {
  AdapterGolden out;
  out.directory = GoldenPath(name);
  const char* base = name.starts_with("tied_")     ? "tied"
                     : name.starts_with("biased_") ? "biased"
                                                   : "base";
  SL_ASSIGN_OR_RETURN(out.base, ModelFiles::Open(GoldenPath(base)));
  SL_ASSIGN_OR_RETURN(out.adapter,
                      ReadPeftAdapter(out.directory, out.base->config()));
  SL_ASSIGN_OR_RETURN(out.expected,
                      SafetensorsFile::Open(GoldenPath(name + ".safetensors")));
  SL_ASSIGN_OR_RETURN(out.logits, out.Expected("logits"));
  const StoredTensor& ids = out.expected->tensors().at("ids");
  out.ids.resize(ids.bytes.size() / sizeof(int32_t));
  std::memcpy(out.ids.data(), ids.bytes.data(), ids.bytes.size());
  return out;
}

absl::StatusOr<std::vector<float>> AdapterGolden::Expected(
    const std::string& name) const {
  const auto it = expected->tensors().find(name);
  if (it != expected->tensors().end()) return ToF32(it->second);
  return absl::NotFoundError("the golden has no " + name);
}

absl::StatusOr<std::vector<float>> ValueOf(const PeftAdapter& adapter,
                                           const std::string& name) {
  const std::string module = name.substr(0, name.rfind('.'));
  const auto& group = name.ends_with(".lora_A")   ? adapter.lora_a
                      : name.ends_with(".lora_B") ? adapter.lora_b
                                                  : adapter.full;
  const auto it = group.find(group.contains(module) ? module : name);
  if (it != group.end()) return it->second.ToFloats();
  return absl::NotFoundError("the adapter has no " + name);
}

absl::StatusOr<std::vector<float>> AllLogits(std::shared_ptr<ServedModel> model,
                                             const std::vector<int32_t>& ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  SL_ASSIGN_OR_RETURN(const auto sequence,
                      Sequence::Create(std::move(model), FullCache(), tokens));
  std::vector<float> out;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::span<const int32_t> token(ids.data() + i, 1);
    SL_RETURN_IF_ERROR(i == 0 ? sequence->Prefill(token, true)
                              : sequence->Decode(ids[i]));
    SL_ASSIGN_OR_RETURN(const std::vector<float> logits, sequence->logits());
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

::testing::AssertionResult LogitsNear(const std::vector<float>& got,
                                      const std::vector<float>& want,
                                      double tolerance) {
  double largest = 0;
  for (const float x : want) largest = std::max(largest, std::abs(double{x}));
  return testing::AllClose(got, want, tolerance * largest);
}

}  // namespace sinklora
