// A decoded token: of one sequence, or of several that share their weights and
// so read them once.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>
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

// One op for each storage that there is.
absl::Status SequenceImpl::AttendRows(std::span<SequenceImpl* const> rows,
                                      int64_t layer, const Chunk& chunk) {
  const LlamaConfig& config = rows[0]->model_->config();
  kernels::Backend* backend = rows[0]->model_->base().backend();
  const LayerActivations& a = chunk.layer;
  const auto count = static_cast<int64_t>(rows.size());
  std::vector<kernels::DecodedToken> tokens;
  tokens.reserve(rows.size());
  for (const DType storage : kStorages) {
    tokens.clear();
    for (int64_t r = 0; r < count; ++r) {
      const KvCache& cache = rows[r]->cache_;
      if (cache.storage() != storage) continue;
      tokens.push_back(cache.Decoded(
          layer, {.q = RowHeads(a.q, r, config.head_dim),
                  .k = RowHeads(a.k, r, config.head_dim),
                  .v = RowHeads(a.v, r, config.head_dim),
                  .out = RowHeads(a.attention, r, config.head_dim),
                  .slots = RowValues(chunk.slots, r, DType::kI32),
                  .growth = RowValues(chunk.found, r, DType::kF32),
                  .victims = RowValues(chunk.found, count + r, DType::kI32)}));
    }
    SL_RETURN_IF_KERNEL_ERROR(
        backend->CacheDecode({.tokens = tokens,
                              .scale = AttentionScale(config),
                              .window = config.window(layer)}));
  }
  return absl::OkStatus();
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

// Returns what fails for all rows; what fails for one goes to its outcome.
absl::Status SequenceImpl::RunRows(std::span<SequenceImpl* const> rows,
                                   std::span<const int32_t> tokens,
                                   DecodeMemory* memory,
                                   std::span<absl::Status> outcomes) {
  const ServedModelImpl& model = *rows[0]->model_;
  const LlamaConfig& config = model.config();
  kernels::Backend* backend = model.base().backend();
  const auto count = static_cast<int64_t>(rows.size());
  SL_ASSIGN_OR_RETURN(Chunk chunk,
                      Chunk::Reserve(model, count, true, &memory->arena));
  chunk.layer.lse = TensorView();
  SL_RETURN_IF_ERROR(BeginRows(rows, tokens, chunk));
  SL_RETURN_IF_ERROR(LookUpRows(backend, model.weights().embedding, chunk.ids,
                                chunk.residual[0]));
  const Graph graph = model.graph(*rows[0]->rope_, DType::kF32);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights& w = model.weights().layers[i];
    const TensorView& x = chunk.residual[i % 2];
    SL_RETURN_IF_ERROR(
        ForwardQkv(graph, w, x, chunk.positions, chunk.lora, chunk.layer));
    SL_RETURN_IF_ERROR(AttendRows(rows, i, chunk));
    SL_RETURN_IF_ERROR(ForwardMlp(graph, w, x, chunk.lora, chunk.layer,
                                  chunk.residual[(i + 1) % 2]));
  }
  SL_ASSIGN_OR_RETURN(const auto logits,
                      memory->logits.Take(backend, count, config.vocab_size));
  SL_RETURN_IF_ERROR(Head(model, chunk.residual[config.num_layers % 2], chunk,
                          logits->view().Rows(0, count)));
  for (int64_t r = 0; r < count; ++r) {
    ++rows[r]->position_;
    rows[r]->logits_ = logits;
    rows[r]->logits_row_ = r;
  }
  return EndRows(rows, chunk, outcomes);
}

class BatchDecoderImpl : public BatchDecoder {
 public:
  std::vector<absl::Status> Decode(std::span<Sequence* const> sequences,
                                   std::span<const int32_t> tokens) override;

 private:
  SequenceImpl::DecodeMemory memory_;
};

std::vector<absl::Status> BatchDecoderImpl::Decode(
    std::span<Sequence* const> sequences, std::span<const int32_t> tokens) {
  std::vector<absl::Status> out(sequences.size());
  std::vector<size_t> left;
  for (size_t i = 0; i < sequences.size(); ++i) {
    out[i] = static_cast<SequenceImpl*>(sequences[i])->CheckDecode(tokens[i]);
    if (out[i].ok()) left.push_back(i);
  }
  while (!left.empty()) {
    const auto* first = static_cast<SequenceImpl*>(sequences[left[0]]);
    std::vector<size_t> later, taken;
    std::vector<SequenceImpl*> rows;
    std::vector<int32_t> row_tokens;
    for (const size_t i : left) {
      auto* sequence = static_cast<SequenceImpl*>(sequences[i]);
      if (!SequenceImpl::CanShareBatch(*first, *sequence)) {
        later.push_back(i);
        continue;
      }
      taken.push_back(i);
      rows.push_back(sequence);
      row_tokens.push_back(tokens[i]);
    }
    std::vector<absl::Status> outcomes(rows.size());
    SequenceImpl::DecodeRows(rows, row_tokens, &memory_, outcomes);
    for (size_t r = 0; r < taken.size(); ++r) {
      out[taken[r]] = std::move(outcomes[r]);
    }
    left = std::move(later);
  }
  return out;
}

}  // namespace internal

std::unique_ptr<BatchDecoder> BatchDecoder::Create() {
  return std::make_unique<internal::BatchDecoderImpl>();
}

}  // namespace sinklora
