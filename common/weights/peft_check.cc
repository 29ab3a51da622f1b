// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

using Shape = std::vector<int64_t>;
// Name in adapter_model.safetensors and shape, by key.
struct Expected {
  std::string file_name;
  Shape shape;
};
using ExpectedTensors = std::map<std::string, Expected>;

absl::Status CheckNumbers(const PeftAdapter& adapter) {
  constexpr int64_t kMaxRank = 65536;
  if (adapter.rank < 1 || adapter.rank > kMaxRank) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter rank r is {}, must be in [1, {}]", adapter.rank, kMaxRank));
  }
  if (!std::isfinite(adapter.lora_alpha)) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter lora_alpha is {}, must be finite", adapter.lora_alpha));
  }
  if (!(adapter.rope_factor >= 1) || !std::isfinite(adapter.rope_factor)) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter rope factor is {}, must be at least 1", adapter.rope_factor));
  }
  if (adapter.context_tokens < 0) {
    return absl::InvalidArgumentError(
        fmt::format("adapter context is {} tokens, must not be negative",
                    adapter.context_tokens));
  }
  if (adapter.target_modules.empty()) {
    return absl::InvalidArgumentError("adapter target_modules is empty");
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const HostTensor& tensor, const Expected& expected) {
  if (tensor.shape != expected.shape) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter tensor '{}' has shape {}, rank and base need {}: is this the "
        "base it was trained on?",
        expected.file_name, ShapeToString(tensor.shape),
        ShapeToString(expected.shape)));
  }
  if (!IsFloat(tensor.dtype)) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor '{}' is {}, must be F32, F16 or BF16",
                    expected.file_name, FileDTypeName(tensor.dtype)));
  }
  const auto bytes = StoredBytes(tensor.dtype, tensor.shape);
  if (bytes != tensor.bytes.size()) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter tensor '{}' has {} bytes, its shape needs {}",
        expected.file_name, tensor.bytes.size(), bytes.value_or(0)));
  }
  const auto bad = FirstNonFinite(tensor.view());
  if (!bad) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("adapter tensor '{}' has NaN or infinity at index {}",
                  expected.file_name, *bad));
}

// "'a', 'b', 'c'", at most ten of them by name.
std::string List(const std::vector<std::string>& names) {
  constexpr size_t kShown = 10;
  const std::vector<std::string> shown(
      names.begin(), names.begin() + std::min(kShown, names.size()));
  return fmt::format("'{}'{}", fmt::join(shown, "', '"),
                     names.size() > kShown
                         ? fmt::format(" and {} more", names.size() - kShown)
                         : "");
}

// `found` holds exactly the expected tensors. `of` says what names them.
absl::Status CheckGroup(const std::map<std::string, HostTensor>& found,
                        const ExpectedTensors& expected,
                        std::string (*name_of)(const std::string&),
                        const char* of) {
  std::vector<std::string> missing, unknown;
  for (const auto& [key, tensor] : expected) {
    if (!found.contains(key)) missing.push_back(tensor.file_name);
  }
  for (const auto& [key, tensor] : found) {
    if (!expected.contains(key)) unknown.push_back(name_of(key));
  }
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor {} is not of the modules that {} selects "
                    "in the base",
                    List(unknown), of));
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor {} is missing, {} selects it in the base",
                    List(missing), of));
  }
  for (const auto& [key, tensor] : found) {
    SL_RETURN_IF_ERROR(CheckTensor(tensor, expected.at(key)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAdapter(const PeftAdapter& adapter, const LlamaConfig& base) {
  SL_RETURN_IF_ERROR(CheckNumbers(adapter));
  if (adapter.context_tokens > 0) {
    const absl::Status fits = CheckRopeFactor(base, adapter.rope_factor);
    if (!fits.ok()) return Annotate(fits, "adapter");
  }
  PeftConfig config = adapter;
  if (config.modules_to_save.empty()) {
    for (const auto& [name, tensor] : adapter.full) {
      config.modules_to_save.push_back(ModuleOfTensor(name));
    }
  }
  SL_ASSIGN_OR_RETURN(const PeftTargets targets, ResolveTargets(config, base));
  const auto shapes = BaseShapes(base);
  ExpectedTensors a, b, magnitude, full;
  for (const auto& [module, rank] : targets.lora) {
    const Shape& shape = shapes.at(module + ".weight");
    a[module] = {LoraAName(module), {rank, shape[1]}};
    b[module] = {LoraBName(module), {shape[0], rank}};
    if (adapter.use_dora) {
      magnitude[module] = {LoraMagnitudeName(module), {shape[0]}};
    }
  }
  for (const std::string& name : targets.full) {
    full[name] = {FullName(name), shapes.at(name)};
  }
  SL_RETURN_IF_ERROR(
      CheckGroup(adapter.lora_a, a, LoraAName, "target_modules"));
  SL_RETURN_IF_ERROR(
      CheckGroup(adapter.lora_b, b, LoraBName, "target_modules"));
  SL_RETURN_IF_ERROR(CheckGroup(adapter.lora_magnitude, magnitude,
                                LoraMagnitudeName,
                                "use_dora with target_modules"));
  SL_RETURN_IF_ERROR(
      CheckGroup(adapter.full, full, FullName, "modules_to_save"));
  return LoraScales(adapter).status();
}

}  // namespace sinklora
