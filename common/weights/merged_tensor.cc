// SPDX-License-Identifier: Apache-2.0
#include "common/weights/merged_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/peft_names.h"
#include "fmt/format.h"
#include "kernels/tensor.h"

namespace sinklora {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";
// Values that are converted at a time.
constexpr int64_t kBlockElements = int64_t{1} << 20;

// Whether the result has one matrix for embedding and head.
bool StaysTied(const LlamaConfig& base, const PeftAdapter& adapter) {
  if (!base.tie_word_embeddings) return false;
  const auto embedding = adapter.full.find(kEmbedding);
  const auto head = adapter.full.find(kHead);
  if (head == adapter.full.end()) return embedding == adapter.full.end();
  return embedding != adapter.full.end() && embedding->second == head->second;
}

// Rows of W + scale B A rescaled to the length that DoRA learned.
void Rescale(float magnitude, float* row, int64_t columns) {
  double squares = 0;
  for (int64_t i = 0; i < columns; ++i) {
    squares += static_cast<double>(row[i]) * row[i];
  }
  const auto factor = static_cast<float>(magnitude / std::sqrt(squares));
  for (int64_t i = 0; i < columns; ++i) row[i] *= factor;
}

absl::StatusOr<std::string> ToBf16Bytes(const std::vector<float>& values,
                                        const std::string& name) {
  std::string bytes(values.size() * sizeof(kernels::bf16_t), '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    const kernels::bf16_t half = kernels::ToBf16(values[i]);
    if (!std::isfinite(kernels::FromBf16(half))) {
      return absl::InvalidArgumentError(fmt::format(
          "tensor '{}' of base and adapter together has value {}, which bf16 "
          "does not hold",
          name, values[i]));
    }
    std::memcpy(bytes.data() + i * sizeof half, &half, sizeof half);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<MergedTensors> MergedTensors::Create(const ModelFiles& base,
                                                    const PeftAdapter& adapter,
                                                    bool merge_lora) {
  MergedTensors out(base, adapter);
  out.tied_ = StaysTied(base.config(), adapter);
  if (merge_lora) {
    SL_ASSIGN_OR_RETURN(out.scales_, LoraScales(adapter));
  }
  return out;
}

absl::StatusOr<StoredTensor> MergedTensors::Source(
    const std::string& name) const {
  const auto full = adapter_->full.find(name);
  if (full != adapter_->full.end()) return full->second.view();
  // The head of a tied base that the adapter unties.
  const bool was_tied = name == kHead && base_->config().tie_word_embeddings;
  return base_->tensor(was_tied ? kEmbedding : name);
}

absl::StatusOr<MergedTensors::Lora> MergedTensors::LoraOf(
    const std::string& name) const {
  Lora out;
  const std::string module = ModuleOfTensor(name);
  const auto scale = scales_.find(module);
  if (scale == scales_.end() || !name.ends_with(".weight")) return out;
  out.scale = static_cast<float>(scale->second);
  SL_ASSIGN_OR_RETURN(out.a, adapter_->lora_a.at(module).ToFloats());
  SL_ASSIGN_OR_RETURN(out.b, adapter_->lora_b.at(module).ToFloats());
  out.rank = adapter_->lora_a.at(module).shape[0];
  const auto magnitude = adapter_->lora_magnitude.find(module);
  if (magnitude != adapter_->lora_magnitude.end()) {
    SL_ASSIGN_OR_RETURN(out.magnitude, magnitude->second.ToFloats());
  }
  return out;
}

void MergedTensors::AddLora(const Lora& lora, int64_t first_row,
                            int64_t columns, std::vector<float>* rows) {
  std::vector<float> delta(static_cast<size_t>(columns));
  const auto count = static_cast<int64_t>(rows->size()) / columns;
  for (int64_t i = 0; i < count; ++i) {
    std::fill(delta.begin(), delta.end(), 0.0f);
    for (int64_t r = 0; r < lora.rank; ++r) {
      const float factor = lora.b[(first_row + i) * lora.rank + r];
      const float* a = lora.a.data() + r * columns;
      for (int64_t c = 0; c < columns; ++c) delta[c] += factor * a[c];
    }
    float* row = rows->data() + i * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] += lora.scale * delta[c];
    if (!lora.magnitude.empty()) {
      Rescale(lora.magnitude[first_row + i], row, columns);
    }
  }
}

absl::Status MergedTensors::WriteBf16(
    const std::string& name,
    const std::function<absl::Status(std::string_view)>& append) const {
  SL_ASSIGN_OR_RETURN(const StoredTensor source, Source(name));
  SL_ASSIGN_OR_RETURN(const Lora lora, LoraOf(name));
  const int64_t columns = source.shape.back();
  const int64_t rows = columns == 0 ? 0 : source.num_elements() / columns;
  const size_t row_bytes =
      rows == 0 ? 0 : source.bytes.size() / static_cast<size_t>(rows);
  const int64_t step = std::max<int64_t>(1, kBlockElements / columns);
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    const StoredTensor block{
        source.dtype,
        {count, columns},
        source.bytes.substr(row_bytes * static_cast<size_t>(row),
                            row_bytes * static_cast<size_t>(count))};
    SL_ASSIGN_OR_RETURN(std::vector<float> values, ToF32(block));
    if (lora.rank > 0) AddLora(lora, row, columns, &values);
    SL_ASSIGN_OR_RETURN(const std::string bytes, ToBf16Bytes(values, name));
    SL_RETURN_IF_ERROR(append(bytes));
  }
  return absl::OkStatus();
}

}  // namespace sinklora
