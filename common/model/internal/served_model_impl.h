// The implementations behind BaseWeights and ServedModel.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_SERVED_MODEL_IMPL_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_SERVED_MODEL_IMPL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "common/model/inference_model.h"
#include "common/model/internal/adapter_weights.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/layer.h"
#include "common/model/internal/model_weights.h"
#include "common/model/internal/rope_table.h"

namespace sinklora::internal {

class BaseWeightsImpl : public BaseWeights {
 public:
  const LlamaConfig& config() const override { return config_; }
  int64_t weight_bytes() const override { return bytes_; }

  kernels::Backend* backend() const { return backend_; }
  kernels::DType matrix_dtype() const { return matrix_dtype_; }
  // REQUIRES: `name` is a tensor of the architecture.
  const DeviceTensor& tensor(const std::string& name) const {
    return tensors_.at(name);
  }

 private:
  friend class ::sinklora::BaseWeights;
  kernels::Backend* backend_ = nullptr;
  kernels::DType matrix_dtype_ = kernels::DType::kF32;
  LlamaConfig config_;
  std::map<std::string, DeviceTensor> tensors_;
  int64_t bytes_ = 0;
};

class ServedModelImpl : public ServedModel {
 public:
  ServedModelImpl(std::shared_ptr<BaseWeightsImpl> base, int64_t context_tokens,
                  double rope_factor)
      : base_(std::move(base)),
        context_tokens_(context_tokens),
        rope_factor_(rope_factor) {}

  const LlamaConfig& config() const override { return base_->config(); }
  int64_t context_tokens() const override { return context_tokens_; }
  double rope_factor() const override { return rope_factor_; }
  int64_t extra_bytes() const override { return extra_bytes_; }
  absl::StatusOr<ScoreResult> Score(std::span<const int32_t> token_ids,
                                    int64_t score_from,
                                    const Cancellation* cancellation) override;

  Graph graph(const RopeTable& rope) const {
    return {base_->backend(), &base_->config(), &rope};
  }
  const RopeTables& rope() const { return rope_; }
  const ModelWeights& weights() const { return weights_; }
  const BaseWeightsImpl& base() const { return *base_; }
  // Uploads the adapter (may be null) and binds the weights. Called once, by
  // Create.
  absl::Status Init(const PeftAdapter* adapter);

 private:
  absl::Status CheckScore(std::span<const int32_t> token_ids,
                          int64_t score_from) const;

  const std::shared_ptr<BaseWeightsImpl> base_;
  const int64_t context_tokens_;
  const double rope_factor_;
  int64_t extra_bytes_ = 0;
  RopeTables rope_;
  AdapterWeights adapter_;  // empty without one
  ModelWeights weights_;    // views of the above and of base_
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_SERVED_MODEL_IMPL_H_
