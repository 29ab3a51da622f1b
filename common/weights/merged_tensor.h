// The tensors of base + adapter, a block of rows at a time.
//
// Not thread-safe; borrows base and adapter.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_MERGED_TENSOR_H_
#define SINKLORA_COMMON_WEIGHTS_MERGED_TENSOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"

namespace sinklora {

class MergedTensors {
 public:
  // With `merge_lora` false only PeftAdapter::full is applied. REQUIRES:
  // CheckAdapter(adapter, base.config()) is OK.
  static absl::StatusOr<MergedTensors> Create(const ModelFiles& base,
                                              const PeftAdapter& adapter,
                                              bool merge_lora);

  // False when the base is tied and the result is not.
  bool tied() const { return tied_; }

  // Calls `append` with the bf16 bytes of tensor `name`, in order. `name` is a
  // tensor of the base, or lm_head.weight. kInvalidArgument naming it when a
  // value is not finite in bf16.
  absl::Status WriteBf16(
      const std::string& name,
      const std::function<absl::Status(std::string_view)>& append) const;

 private:
  MergedTensors(const ModelFiles& base, const PeftAdapter& adapter)
      : base_(&base), adapter_(&adapter) {}
  absl::StatusOr<StoredTensor> Source(const std::string& name) const;

  // What LoRA adds to one matrix. Empty: nothing.
  struct Lora {
    std::vector<float> a, b, magnitude;
    int64_t rank = 0;
    float scale = 0;
  };
  absl::StatusOr<Lora> LoraOf(const std::string& name) const;
  // Adds it to rows [first_row, ...) of the matrix, of `columns` each.
  static void AddLora(const Lora& lora, int64_t first_row, int64_t columns,
                      std::vector<float>* rows);

  const ModelFiles* base_;
  const PeftAdapter* adapter_;
  std::map<std::string, double> scales_;  // empty without merge_lora
  bool tied_ = false;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_MERGED_TENSOR_H_
