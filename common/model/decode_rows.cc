// A decoded token: of one sequence, or of several that share their weights and
// so read them once.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <vector>

#include "common/base/status.h"
#include "common/model/internal/sequence_impl.h"

namespace sinklora {
namespace internal {

using kernels::ConstTensorView;
using kernels::DType;
using kernels::TensorView;

namespace {

constexpr DType kStorages[] = {DType::kF32, DType::kBF16, DType::kI8};

// Row `row` of x [rows, n * head_dim] as [n, head_dim].
TensorView RowHeads(const TensorView& x, int64_t row, int64_t head_dim) {
  return TensorView(x.Rows(row, 1).data, x.dtype,
                    {x.shape[1] / head_dim, head_dim});
}

// Row `row` of x [rows, values], values of 4 bytes, as [values] of `dtype`.
TensorView RowValues(const TensorView& x, int64_t row, DType dtype) {
  return TensorView(x.Rows(row, 1).data, dtype, {x.shape[1]});
}

}  // namespace

absl::Status SequenceImpl::CheckDecode(int32_t token) const {
  if (!decoding_) {
    return absl::FailedPreconditionError(
        "prefill of the sequence has not ended");
  }
  return CheckTokens({&token, 1});
}

absl::Status SequenceImpl::Decode(int32_t token) {
  SL_RETURN_IF_ERROR(CheckDecode(token));
  SequenceImpl* const self = this;
  absl::Status outcome;
  DecodeRows({&self, 1}, {&token, 1}, &memory_, {&outcome, 1});
  return outcome;
}

void SequenceImpl::DecodeRows(std::span<SequenceImpl* const> rows,
                              std::span<const int32_t> tokens,
                              DecodeMemory* memory,
                              std::span<absl::Status> outcomes) {
  std::fill(outcomes.begin(), outcomes.end(), absl::OkStatus());
  for (SequenceImpl* row : rows) row->logits_ = nullptr;
  const absl::Status shared = RunRows(rows, tokens, memory, outcomes);
  for (size_t i = 0; i < rows.size(); ++i) {
    outcomes[i].Update(shared);
    rows[i]->Settle(outcomes[i]).IgnoreError();  // outcomes[i] again
  }
}

absl::Status SequenceImpl::BeginRows(std::span<SequenceImpl* const> rows,
                                     std::span<const int32_t> tokens,
                                     const Chunk& chunk) {
  kernels::Backend* backend = rows[0]->model_->base().backend();
  std::vector<int32_t> positions;
  std::vector<int32_t> slots(static_cast<size_t>(chunk.slots.num_elements()));
  std::span<int32_t> rest = slots;
  for (SequenceImpl* row : rows) {
    positions.push_back(static_cast<int32_t>(row->position_));
    const auto values = static_cast<size_t>(row->cache_.step_values());
    row->cache_.BeginStep(row->position_, rest.first(values));
    rest = rest.subspan(values);
  }
  SL_RETURN_IF_ERROR(Upload(backend, positions, chunk.positions));
  SL_RETURN_IF_ERROR(Upload(backend, slots, chunk.slots));
  return Upload(backend, tokens, chunk.ids);
}

// One op a layer for each storage that there is.
SequenceImpl::StepDecodes SequenceImpl::DecodesOf(
    std::span<SequenceImpl* const> rows, const Chunk& chunk) {
  const LlamaConfig& config = rows[0]->model_->config();
  const LayerActivations& a = chunk.layer;
  const auto count = static_cast<int64_t>(rows.size());
  StepDecodes out;
  out.tokens.reserve(static_cast<size_t>(config.num_layers * count));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const DType storage : kStorages) {
      const size_t first = out.tokens.size();
      for (int64_t r = 0; r < count; ++r) {
        const KvCache& cache = rows[r]->cache_;
        if (cache.storage() != storage) continue;
        out.tokens.push_back(cache.Decoded(
            layer,
            {.q = RowHeads(a.q, r, config.head_dim),
             .k = RowHeads(a.k, r, config.head_dim),
             .v = RowHeads(a.v, r, config.head_dim),
             .out = RowHeads(a.attention, r, config.head_dim),
             .slots = RowValues(chunk.slots, r, DType::kI32),
             .growth = RowValues(chunk.found, r, DType::kF32),
             .victims = RowValues(chunk.found, count + r, DType::kI32)}));
      }
      if (out.tokens.size() == first) continue;
      out.ops.push_back({.tokens = std::span(out.tokens).subspan(first),
                         .scale = AttentionScale(config),
                         .window = config.window(layer)});
    }
  }
  out.ops_per_layer = out.ops.size() / static_cast<size_t>(config.num_layers);
  return out;
}

absl::Status SequenceImpl::EndRows(std::span<SequenceImpl* const> rows,
                                   const Chunk& chunk,
                                   std::span<absl::Status> outcomes) {
  const auto finds = [](const SequenceImpl* row) {
    return row->cache_.FindsSomething();
  };
  if (std::none_of(rows.begin(), rows.end(), finds)) return absl::OkStatus();
  std::vector<int32_t> victims(static_cast<size_t>(chunk.found.num_elements()));
  SL_RETURN_IF_KERNEL_ERROR(rows[0]->model_->base().backend()->CopyToHost(
      chunk.found.data, victims.data(),
      static_cast<int64_t>(victims.size() * sizeof(int32_t))));
  std::vector<float> growth(victims.size() / 2);
  std::memcpy(growth.data(), victims.data(), growth.size() * sizeof(float));
  const auto values = static_cast<size_t>(chunk.found.shape[1]);
  for (size_t r = 0; r < rows.size(); ++r) {
    outcomes[r] = rows[r]->cache_.EndStep(
        std::span(growth).subspan(r * values, values),
        std::span(victims).subspan(growth.size() + r * values, values));
  }
  return absl::OkStatus();
}

// From ids to logits.
absl::Status SequenceImpl::RunLayers(const SequenceImpl& first,
                                     const StepDecodes& decodes,
                                     const Chunk& chunk,
                                     const TensorView& logits) {
  const ServedModelImpl& model = *first.model_;
  const LlamaConfig& config = model.config();
  kernels::Backend* backend = model.base().backend();
  SL_RETURN_IF_ERROR(LookUpRows(backend, model.weights().embedding, chunk.ids,
                                chunk.residual[0]));
  const Graph graph = model.graph(*first.rope_, DType::kF32);
  std::span<const kernels::CacheDecodeParams> attention = decodes.ops;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights& w = model.weights().layers[i];
    const TensorView& x = chunk.residual[i % 2];
    SL_RETURN_IF_ERROR(
        ForwardQkv(graph, w, x, chunk.positions, chunk.lora, chunk.layer));
    for (const auto& op : attention.first(decodes.ops_per_layer)) {
      SL_RETURN_IF_KERNEL_ERROR(backend->CacheDecode(op));
    }
    attention = attention.subspan(decodes.ops_per_layer);
    SL_RETURN_IF_ERROR(ForwardMlp(graph, w, x, chunk.lora, chunk.layer,
                                  chunk.residual[(i + 1) % 2]));
  }
  return Head(model, chunk.residual[config.num_layers % 2], chunk, logits);
}

// All that RunLayers depends on but for its decodes: weights, which stay what
// they are; the chunk, whose tensors follow from where it begins and how many
// rows it has; the rotation; and where logits go.
std::vector<uint64_t> SequenceImpl::KeyOf(const SequenceImpl& first,
                                          const Chunk& chunk,
                                          const TensorView& logits) {
  const auto address = [](const void* data) {
    return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(data));
  };
  const TensorView& cos = first.rope_->cos.view();
  return {first.model_->id(),
          static_cast<uint64_t>(chunk.ids.shape[0]),
          address(chunk.ids.data),
          address(cos.data),
          address(first.rope_->sin.view().data),
          static_cast<uint64_t>(cos.shape[0]),
          address(logits.data)};
}

// Returns what fails for all rows; what fails for one goes to its outcome.
absl::Status SequenceImpl::RunRows(std::span<SequenceImpl* const> rows,
                                   std::span<const int32_t> tokens,
                                   DecodeMemory* memory,
                                   std::span<absl::Status> outcomes) {
  const ServedModelImpl& model = *rows[0]->model_;
  kernels::Backend* backend = model.base().backend();
  const auto count = static_cast<int64_t>(rows.size());
  SL_ASSIGN_OR_RETURN(Chunk chunk,
                      Chunk::Reserve(model, count, true, &memory->arena));
  chunk.layer.lse = TensorView();
  SL_ASSIGN_OR_RETURN(
      const auto block,
      memory->logits.Take(backend, count, model.config().vocab_size));
  const TensorView logits = block->view().Rows(0, count);
  SL_RETURN_IF_ERROR(BeginRows(rows, tokens, chunk));
  const StepDecodes decodes = DecodesOf(rows, chunk);
  const std::vector<uint64_t> key = KeyOf(*rows[0], chunk, logits);
  absl::Status layers;
  SL_RETURN_IF_KERNEL_ERROR(
      backend->Repeat({.key = key, .decodes = decodes.ops, .run = [&] {
                         layers = RunLayers(*rows[0], decodes, chunk, logits);
                         return layers.ok();
                       }}));
  SL_RETURN_IF_ERROR(layers);
  for (int64_t r = 0; r < count; ++r) {
    ++rows[r]->position_;
    rows[r]->logits_ = block;
    rows[r]->logits_row_ = r;
  }
  return EndRows(rows, chunk, outcomes);
}

}  // namespace internal
}  // namespace sinklora
