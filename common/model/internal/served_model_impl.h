// The implementations behind BaseWeights and ServedModel.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_SERVED_MODEL_IMPL_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_SERVED_MODEL_IMPL_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "common/model/inference_model.h"
#include "common/model/internal/adapter_weights.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/layer.h"
#include "common/model/internal/model_weights.h"
#include "common/model/internal/quantized_tensor.h"
#include "common/model/internal/rope_table.h"

namespace sinklora::internal {

class BaseWeightsImpl : public BaseWeights {
 public:
  const LlamaConfig& config() const override { return config_; }
  int64_t weight_bytes() const override { return bytes_; }

  kernels::Backend* backend() const { return backend_; }
  WeightType weight_type() const override { return weight_type_; }
  // Of matrices that are not packed: all of them, or those of an adapter.
  kernels::DType dense_dtype() const {
    return weight_type_ == WeightType::kFloat32 ? kernels::DType::kF32
                                                : kernels::DType::kBF16;
  }
  // REQUIRES: `name` is a tensor of the architecture.
  MatrixView tensor(const std::string& name) const;

 private:
  friend class ::sinklora::BaseWeights;
  absl::Status Add(const std::string& name, const StoredTensor& stored);

  kernels::Backend* backend_ = nullptr;
  WeightType weight_type_ = WeightType::kFloat32;
  LlamaConfig config_;
  std::map<std::string, DeviceTensor> dense_;
  std::map<std::string, QuantizedTensor> quantized_;
  int64_t bytes_ = 0;
};

class ServedModelImpl : public ServedModel {
 public:
  ServedModelImpl(std::shared_ptr<BaseWeightsImpl> base, int64_t context_tokens,
                  double rope_factor)
      : id_(NextId()),
        base_(std::move(base)),
        context_tokens_(context_tokens),
        rope_factor_(rope_factor) {}

  // No other model of the process has or had it.
  uint64_t id() const { return id_; }

  const LlamaConfig& config() const override { return base_->config(); }
  int64_t context_tokens() const override { return context_tokens_; }
  double rope_factor() const override { return rope_factor_; }
  int64_t extra_bytes() const override { return extra_bytes_; }
  CacheStorage own_cache_storage() const override {
    return base_->weight_type() == WeightType::kBfloat16
               ? CacheStorage::kBfloat16
               : CacheStorage::kFloat32;
  }
  absl::StatusOr<ScoreResult> Score(std::span<const int32_t> token_ids,
                                    int64_t score_from,
                                    const Cancellation* cancellation) override;

  // `products` with packed matrices (see Multiply), and of the attention of
  // prompts beside matrices of 16 bits or less.
  Graph graph(const RopeTable& rope, kernels::DType products) const {
    return {.backend = base_->backend(),
            .config = &base_->config(),
            .rope = &rope,
            .product_dtype = base_->weight_type() == WeightType::kFloat32
                                 ? kernels::DType::kF32
                                 : products,
            .packed_products = products};
  }
  const RopeTables& rope() const { return rope_; }
  const ModelWeights& weights() const { return weights_; }
  const BaseWeightsImpl& base() const { return *base_; }
  // Uploads the adapter (may be null) and binds the weights. Called once, by
  // Create.
  absl::Status Init(const PeftAdapter* adapter);

 private:
  static uint64_t NextId() {
    static std::atomic<uint64_t> next{0};
    return next++;
  }
  absl::Status CheckScore(std::span<const int32_t> token_ids,
                          int64_t score_from) const;

  const uint64_t id_;
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
